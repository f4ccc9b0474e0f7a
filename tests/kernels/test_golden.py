"""Known results, as bits."""

import platform
import struct

import pytest

from hotloop.kernels import Kernel
from tests.kernels.bits import hex_bits
from tests.kernels.cases import columns_of
from tests.kernels.oracles import exact_loop, exact_nested

# With value 0, offset 0 and the default parameters these are the two loops of the service that this
# one grew out of. The bits of `python` were computed once with glibc 2.36 on x86-64. Those of the
# compiled kernels hold everywhere, for they use nothing but correctly rounded operations. All are
# within the bounds that the oracles state, as the tests below check again.
VALUES = (0.0, 1.0, 0.5, 999_999.0, 1e6)
OFFSETS = (0, 1, 999, 2**31 - 1, 123_456_789)
PYTHON_LOOP_BITS = [
    "c0445a5adf42b530",  # -40.70589819676604
    "403a397cf29d20ac",
    "c02ad8ae57943454",
    "c02c4aca10095990",
    "c0735def3ca7a414",
]
COMPILED_LOOP_BITS = [
    "c0445a5adf42b546",  # -40.7058981967662
    "403a397cf29d2080",
    "c02ad8ae579434e4",
    "c02c4aca100968d0",
    "c0735def3ca7a4a2",
]
NESTED = [9_388_000, 9_399_000, 9_718_000, 10_241_000, 10_147_000]


def test_default_item_gives_the_documented_numbers(kernel: Kernel) -> None:
    result = kernel.run(columns_of([0.0], [0]))
    assert result["loop"][0] == pytest.approx(-40.70589819676604, rel=1e-12)
    assert result["nested"][0] == 9_388_000


# The python kernel calls the sin and cos of the C library, which promises no last bit.
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the golden bits are those of glibc")
def test_loop_of_python_gives_golden_bits(python: Kernel) -> None:
    assert hex_bits(python.run(columns_of(VALUES, OFFSETS))["loop"]) == PYTHON_LOOP_BITS


def test_loop_of_compiled_kernel_gives_golden_bits(compiled: Kernel) -> None:
    assert hex_bits(compiled.run(columns_of(VALUES, OFFSETS))["loop"]) == COMPILED_LOOP_BITS


def test_golden_bits_agree_with_the_oracle() -> None:
    goldens = list(zip(VALUES, PYTHON_LOOP_BITS, COMPILED_LOOP_BITS, strict=True))
    for value, *bits in goldens[::4]:
        exact, bound = exact_loop(value, 20_000)
        for word in bits:
            (computed,) = struct.unpack(">d", bytes.fromhex(word))
            assert abs(computed - exact) <= bound
            assert abs(computed - exact) < 1e-9


def test_nested_gives_golden_integers(kernel: Kernel) -> None:
    assert kernel.run(columns_of(VALUES, OFFSETS))["nested"].tolist() == NESTED


def test_golden_integers_agree_with_the_oracle() -> None:
    assert [exact_nested(offset, 100, 200) for offset in OFFSETS] == NESTED
