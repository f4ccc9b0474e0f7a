"""app/check/memory.py: what leaves an array is seen, or ends the process."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import numpy as np
import pytest

from hotloop.app.check.memory import GUARD, Fenced, Guarded, Memory, poison
from tests.fixtures.server import ROOT

DTYPES = ("float64", "float32", "int8", "uint16", "int64", "bool")


def memories() -> list[Memory]:
    return [Guarded(0), Guarded(1, 3), Fenced(0, at_end=True), Fenced(1, at_end=False)]


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_are_what_kernels_get(place: int, dtype: str) -> None:
    memory = memories()[place]
    values = np.ones((3, 4), dtype=dtype)
    given = memory.input("x", values)
    assert given.tolist() == values.tolist()
    for array in (given, memory.output("y", (5,), dtype), memory.output("z", (0,), dtype)):
        assert array.flags.c_contiguous
        assert array.flags.aligned
        assert array.dtype == np.dtype(dtype)
    assert not given.flags.writeable
    assert memory.output("y", (5,), dtype).flags.writeable
    assert memory.changed() == ([], [])
    memory.close()


@pytest.mark.parametrize("dtype", DTYPES)
def test_poison_differs_in_its_two_kinds(dtype: str) -> None:
    first, second = (Guarded(kind).output("y", (2,), dtype) for kind in (0, 1))
    assert not np.any(first == second)
    assert first.tobytes() == np.full(2, poison(dtype, 0), dtype=dtype).tobytes()


@pytest.mark.parametrize("elements", [-1, -GUARD // 8, 3, 3 + GUARD // 8 - 1])
def test_what_is_written_beside_an_array_is_seen(elements: int) -> None:
    memory = Guarded(0)
    memory.output("x", (3,), "float64")
    array = memory.output("y", (3,), "float64")
    array[...] = 1.0
    assert memory.changed() == ([], [])
    start = array.__array_interface__["data"][0]
    ctypes.c_double.from_address(start + 8 * elements).value = 7.0
    assert memory.changed() == ([], ["y"])


def test_changed_input_is_seen() -> None:
    memory = Guarded(0)
    given = memory.input("x", np.zeros(3))
    given.flags.writeable = True
    given[0] = -0.0
    assert memory.changed() == (["x"], [])


def test_shifts_align_arrays_to_one_element_only() -> None:
    places = {
        Guarded(0, shift).output("y", (4,), "float64").__array_interface__["data"][0] % 32
        for shift in range(4)
    }
    assert len(places) > 1


@pytest.mark.parametrize(
    "code",
    [
        "at(output + 8 * 5).value",  # behind the last element
        "at(output + 8 * 5).__setattr__('value', 1.0)",
        "at(first - 8).value",  # before the first one
        "at(given).__setattr__('value', 1.0)",  # an input
    ],
)
def test_system_ends_a_process_that_leaves_protected_arrays(code: str) -> None:
    program = (
        "import ctypes, numpy\n"
        "from hotloop.app.check.memory import Fenced\n"
        "end, start = Fenced(0, at_end=True), Fenced(0, at_end=False)\n"
        "address = lambda array: array.__array_interface__['data'][0]\n"
        "at = ctypes.c_double.from_address\n"
        "output = address(end.output('y', (5,), 'float64'))\n"
        "first = address(start.output('y', (5,), 'float64'))\n"
        "given = address(end.input('x', numpy.zeros(5)))\n"
        "assert at(output + 8 * 4).value != at(first).value + 1\n"
        "print('before', flush=True)\n"
        f"{code}\n"
        "print('after', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout == "before\n", done.stderr
    assert done.returncode < 0
