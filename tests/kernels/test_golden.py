"""Known results, as bits."""

import platform

import pytest

from kernels import Kernel, KernelName
from tests.kernels.bits import hex_bits
from tests.kernels.cases import columns_of
from tests.kernels.oracles import exact_loop, exact_nested

# With value 0, offset 0 and the default parameters these are the two loops of the service that this
# one grew out of. The bits of the others were computed once by each kernel (x86-64, glibc 2.36) and
# are all within the bounds that the oracles state, as the tests below check again.
VALUES = (0.0, 1.0, 0.5, 999_999.0, 1e6)
OFFSETS = (0, 1, 999, 2**31 - 1, 123_456_789)
PYTHON_LOOP_BITS = [
    "c0445a5adf42b530",  # -40.70589819676604
    "403a397cf29d20ac",
    "c02ad8ae57943454",
    "c02c4aca10095990",
    "c0735def3ca7a414",
]
COMPILED_LOOP_BITS = PYTHON_LOOP_BITS
NESTED = [9_388_000, 9_399_000, 9_718_000, 10_241_000, 10_147_000]

# The kernels call the sin and cos of the C library, which promises no last bit.
needs_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the golden bits of loop are those of glibc"
)


def test_default_item_gives_the_documented_numbers(kernel: Kernel) -> None:
    result = kernel.run(columns_of([0.0], [0]))
    assert result["loop"][0] == pytest.approx(-40.70589819676604, rel=1e-12)
    assert result["nested"][0] == 9_388_000


@needs_glibc
def test_loop_gives_golden_bits(kernel: Kernel) -> None:
    expected = PYTHON_LOOP_BITS if kernel.name == KernelName.PYTHON else COMPILED_LOOP_BITS
    assert hex_bits(kernel.run(columns_of(VALUES, OFFSETS))["loop"]) == expected


def test_nested_gives_golden_integers(kernel: Kernel) -> None:
    assert kernel.run(columns_of(VALUES, OFFSETS))["nested"].tolist() == NESTED


def test_golden_integers_agree_with_the_oracle() -> None:
    assert [exact_nested(offset, 100, 200) for offset in OFFSETS] == NESTED


def test_golden_float_agrees_with_the_oracle() -> None:
    exact, bound = exact_loop(0.0, 20_000)
    assert abs(-40.70589819676604 - exact) <= bound
    assert bound < 1e-7
