"""Choosing an instruction set: what there is, what is forced, what is refused."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from hotloop import kernels
from hotloop.kernels import InstructionSetUnavailableError, Kernel
from tests.kernels.bits import hex_bits
from tests.kernels.cases import mixed_columns

KNOWN = ("avx512f", "avx2+fma", "baseline")
WITHOUT_FMA = """
import sys
sys.path.insert(0, "")
from hotloop import kernels
from tests.kernels.bits import hex_bits
from tests.kernels.cases import mixed_columns
kernel = kernels.get_kernel("loops", "numba")
print(kernel.instruction_set)
print(*hex_bits(kernel.run(mixed_columns(67))["loop"]))
"""


@pytest.fixture(autouse=True)
def unforced() -> Iterator[None]:
    yield
    for name in kernels.available_kernels("loops"):
        kernels.force_instruction_set("loops", name, None)


def test_cython_sets_are_best_first_and_include_the_baseline(cython: Kernel) -> None:
    choices = kernels.instruction_sets("loops", "cython")
    assert [name for name in KNOWN if name in choices] == list(choices)
    assert choices[-1] == "baseline"
    assert cython.instruction_set == choices[0]


def test_cython_sets_are_those_of_the_processor(cython: Kernel) -> None:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists() or "\nflags" not in cpuinfo.read_text():
        pytest.skip("this system does not list the features of its processor")
    flags = set(cpuinfo.read_text().split("\nflags", 1)[1].split("\n", 1)[0].split())
    choices = kernels.instruction_sets("loops", "cython")
    assert ("avx512f" in choices) is ("avx512f" in flags)
    assert ("avx2+fma" in choices) is ({"avx2", "fma"} <= flags)


def test_numba_has_one_set_and_python_none(numba: Kernel, python: Kernel) -> None:
    assert kernels.instruction_sets("loops", "numba") == (numba.instruction_set,)
    assert numba.instruction_set in KNOWN
    assert kernels.instruction_sets("loops", "python") == ()
    assert python.instruction_set is None


def test_each_instruction_set_has_its_own_kernel(cython: Kernel) -> None:
    for choice in kernels.instruction_sets("loops", "cython"):
        kernel = kernels.get_kernel("loops", "cython", choice)
        assert kernel is kernels.get_kernel("loops", "cython", choice)
        assert kernel.instruction_set == choice
        assert kernel.name == "cython"
        assert (kernel is cython) is (choice == cython.instruction_set)


def test_forced_set_is_used_until_it_is_lifted(cython: Kernel) -> None:
    kernels.force_instruction_set("loops", "cython", "baseline")
    assert kernels.get_kernel("loops", "cython").instruction_set == "baseline"
    best = kernels.instruction_sets("loops", "cython")[0]
    assert kernels.get_kernel("loops", "cython", best) is cython
    kernels.force_instruction_set("loops", "cython", None)
    assert kernels.get_kernel("loops", "cython") is cython


@pytest.mark.parametrize("name", ["avx512", "AVX2+FMA", "", "native", " baseline"])
def test_unknown_set_is_refused_with_the_choices(kernel: Kernel, name: str) -> None:
    choices = kernels.instruction_sets("loops", kernel.name)
    for call in (kernels.get_kernel, kernels.force_instruction_set):
        with pytest.raises(InstructionSetUnavailableError) as caught:
            call("loops", kernel.name, name)
        assert caught.value.kernel == kernel.name
        assert caught.value.name == name
        assert caught.value.choices == choices
        assert f"choose one of: {', '.join(choices) or 'none'}" in str(caught.value)
    assert kernels.get_kernel("loops", kernel.name) is kernel


def test_unknown_names_are_refused_as_in_get_kernel() -> None:
    with pytest.raises(kernels.UnknownWorkloadError):
        kernels.instruction_sets("loop", "cython")
    with pytest.raises(kernels.UnknownKernelError):
        kernels.force_instruction_set("loops", "rust", "baseline")


def test_extension_itself_refuses_an_unknown_set(cython: Kernel) -> None:
    with pytest.raises(ValueError, match="no instruction set 'sse9' on this machine"):
        import_module("hotloop.kernels.loops._cython").Lanes("sse9")


def test_kernel_survives_pickling_with_its_instruction_set(cython: Kernel) -> None:
    for choice in kernels.instruction_sets("loops", "cython"):
        kernel = kernels.get_kernel("loops", "cython", choice)
        copy = pickle.loads(pickle.dumps(kernel))
        assert copy.instruction_set == choice
        assert [function.__self__.__reduce__()[1] for function in copy._functions] == [
            (choice,)
        ] * 2


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the processor named is an x86-64 one")
def test_numba_for_a_processor_without_fma_gives_the_same_bits(numba: Kernel) -> None:
    old = {"NUMBA_CPU_NAME": "core2", "NUMBA_CPU_FEATURES": "+sse2"}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_FMA],
        cwd=Path(__file__).parents[2],
        env=os.environ | old,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    chosen, words = done.stdout.splitlines()
    assert chosen == "baseline"
    assert words.split() == hex_bits(numba.run(mixed_columns(67))["loop"])
