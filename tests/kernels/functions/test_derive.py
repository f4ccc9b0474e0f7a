"""Kernels derived from a function (`kernels/functions/derive.py`) compute as Python does."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
import pytest

import hotloop
from hotloop.kernels import Kernel, parity_faults
from hotloop.kernels.contract import Scratch
from hotloop.kernels.functions.declaration import WorkloadFunction
from hotloop.kernels.functions.derive import one_line
from hotloop.kernels.kernel import CACHE_LINE, new_scratch
from tests.kernels.functions import samples

Function = WorkloadFunction[Any, Any]
DERIVED = [samples.ratio, samples.kinds, samples.tree, samples.dot, samples.powers]


def kernel(function: Function, name: str) -> Kernel:
    found = function.load_kernel(name)
    assert isinstance(found, Kernel), found
    found.warm_up()
    return found


@pytest.mark.parametrize("function", DERIVED, ids=lambda f: f.name)
def test_numba_is_equal_to_the_function_to_the_bit(function: Function) -> None:
    declared = function.declaration
    items = declared.simulated_columns(np.arange(2_000, dtype=np.int64))
    choices: list[dict[str, Any]] = [{}]
    for parameter in declared.parameters:
        values = parameter.choices or ([True, False] if parameter.dtype == "bool" else [])
        choices += [{parameter.name: value} for value in values]
    for given in choices:
        python = kernel(function, "python").run(items, given)
        numba = kernel(function, "numba").run(items, given)
        assert parity_faults(declared, items, given, python, numba) == []
        assert [v.tobytes() for v in python.values()] == [v.tobytes() for v in numba.values()]


def test_derived_kernels_call_the_function_with_python_numbers() -> None:
    items = samples.dot.declaration.simulated_columns(np.arange(9, dtype=np.int64))
    totals = kernel(samples.dot, "python").run(items)["total"]
    for row in range(9):
        values = [items[name][row].tolist() for name in ("bytes_", "weights", "scale")]
        assert totals[row] == samples.dot(*values)
    assert (totals < 0).any()


def test_functions_that_it_calls_are_compiled_with_it() -> None:
    items = samples.tree.declaration.simulated_columns(np.arange(3, dtype=np.int64))
    prices = kernel(samples.tree, "numba").run(items, {"steps": 7})
    spot, strike = items["spot"][1].item(), items["strike"][1].item()
    one = samples.tree(spot, strike, 7, 0.2, "put", True, [0.0] * 9)
    assert (prices["price"][1], prices["nodes"][1]) == one
    assert prices["nodes"].dtype == np.int32


def test_function_that_numba_cannot_type_has_the_reason_in_one_line() -> None:
    function = samples.not_for_numba
    assert function.run({"x": [1.25]})["result"].tolist() == [8.0]  # auto takes python
    loaded = function.load_kernel("numba")
    assert isinstance(loaded, Kernel)
    with pytest.raises(numba.core.errors.UnsupportedBytecodeError) as caught:
        loaded.warm_up()
    reason = one_line(caught.value)
    assert "samples.py:" in reason
    assert "\n" not in reason
    assert len(reason) < 400


def test_unsigned_numbers_of_64_bits_are_refused_in_words() -> None:
    loaded = unsigned.load_kernel("numba")
    assert isinstance(loaded, Kernel)
    with pytest.raises(TypeError, match="'n' as int64, or add a batch kernel"):
        loaded.warm_up()
    big = np.array([2**64 - 1], dtype=np.uint64)
    assert unsigned.run({"n": big}, kernel="python")["result"].tolist() == [15]


def test_errors_are_those_of_python() -> None:
    items = {"x": np.array([0.5])}
    for name in ("python", "numba"):
        with pytest.raises(ZeroDivisionError):
            kernel(samples.fussy, name).run(items)
        with pytest.raises(ValueError, match="too small"):
            kernel(samples.fussy, name).run({"x": np.array([0.1])})


def test_powers_have_the_errors_of_python() -> None:
    """Holds `kernels/functions/powers.py` against Python."""
    for x in (0.5, 0.9):
        for name in ("python", "numba"):
            with pytest.raises(ZeroDivisionError if x == 0.5 else OverflowError):
                kernel(samples.power_errors, name).run({"x": np.array([x])})
    assert kernel(samples.power_errors, "numba").run({"x": np.array([0.25])})["result"] == [
        samples.power_errors(0.25)
    ]


def test_derived_kernel_is_compiled_once_by_many_threads() -> None:
    function = WorkloadFunction(samples.ratio.function, name="again")
    loaded = function.load_kernel("numba")
    assert isinstance(loaded, Kernel)
    items = function.declaration.simulated_columns(np.arange(5, dtype=np.int64))
    found: list[bytes] = []

    def run() -> None:
        found.append(loaded.run(items)["result"].tobytes())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    (batch,) = loaded._functions
    assert len(batch._compiled.signatures) == 1  # type: ignore[attr-defined]


def low_bits(n: int) -> int:
    return n & 15


unsigned: Function = WorkloadFunction(low_bits, columns={"n": hotloop.Integer(dtype="uint64")})


@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_scratch_begins_at_a_cache_line(dtype: str) -> None:
    declared = Scratch("values", dtype, ("steps + 1", "3"))
    for steps in (0, 1, 7, 1_000):
        array = new_scratch(declared, {"steps": steps})
        assert (array.shape, array.dtype) == ((steps + 1, 3), np.dtype(dtype))
        assert array.ctypes.data % CACHE_LINE == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        array[:] = 1
    assert new_scratch(Scratch("nothing", dtype, ("0",)), {}).size == 0
