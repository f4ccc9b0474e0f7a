"""loops._numba_intrinsics: items and terms in lanes have the same bits everywhere."""

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from hotloop.kernels import Kernel
from tests.kernels.bits import bits
from tests.kernels.cases import Columns, mixed_columns

FEW: Mapping[str, int] = {"cpu_iterations": 5, "outer_iterations": 2, "inner_iterations": 3}
LENGTHS = 131
SIZE = 1000


def loop_only(cpu_iterations: int) -> dict[str, int]:
    return {"cpu_iterations": cpu_iterations, "outer_iterations": 0}


def nested_only(outer: int, inner: int) -> dict[str, int]:
    return {"cpu_iterations": 0, "outer_iterations": outer, "inner_iterations": inner}


@cache
def columns() -> Columns:
    """Every other value is small, so that its terms pass powers of two and lose digits there."""
    columns = mixed_columns(SIZE, seed=5)
    columns["value"][1::2] /= 1e4
    return columns


@pytest.fixture(scope="module")
def alone(numba: Kernel) -> dict[str, np.ndarray]:
    """Return what numba gives for each item in a batch of its own: terms in lanes throughout."""
    results = [numba.run(part(index, index + 1), FEW) for index in range(SIZE)]
    return {name: np.concatenate([one[name] for one in results]) for name in results[0]}


def part(start: int, stop: int) -> Columns:
    return {name: column[start:stop] for name, column in columns().items()}


@pytest.mark.parametrize("start", [0, 1, 3])
def test_batch_of_any_length_has_the_bits_of_its_items_alone(
    compiled: Kernel, alone: dict[str, np.ndarray], start: int
) -> None:
    for length in (*range(LENGTHS), SIZE - start):
        result = compiled.run(part(start, start + length), FEW)
        for name, expected in alone.items():
            assert result[name].tobytes() == expected[start : start + length].tobytes(), length


def test_item_has_the_same_bits_in_every_lane(
    compiled: Kernel, alone: dict[str, np.ndarray]
) -> None:
    for shift in range(1, 65):
        rolled = {name: np.roll(column, shift) for name, column in columns().items()}
        for name, result in compiled.run(rolled, FEW).items():
            assert np.roll(result, -shift).tobytes() == alone[name].tobytes()


def test_result_does_not_depend_on_vector_neighbours(compiled: Kernel) -> None:
    expected = bits(compiled.run(part(0, 1), FEW)["loop"])[0]
    for neighbour in (0.0, -0.0, 5e-324, 355.0, 1e6):
        for lane in range(16):
            batch = {
                "value": np.full(16, neighbour),
                "offset": np.zeros(16, dtype=np.int64),
            }
            batch["value"][lane] = columns()["value"][0]
            assert bits(compiled.run(batch, FEW)["loop"])[lane] == expected


@pytest.mark.parametrize("shift", range(8))
def test_result_does_not_depend_on_the_memory_address(
    compiled: Kernel, alone: dict[str, np.ndarray], shift: int
) -> None:
    memory = np.zeros(SIZE + 8), np.zeros(SIZE + 8, dtype=np.int64)
    out = {
        name: array[shift : shift + SIZE]
        for name, array in zip(("loop", "nested"), memory, strict=True)
    }
    compiled.run(part(0, SIZE), FEW, out=out)
    for name, result in out.items():
        assert result.tobytes() == alone[name].tobytes()
    for array in memory:
        assert not array[:shift].any()
        assert not array[shift + SIZE :].any()


def test_item_alone_has_the_bits_of_the_batch_for_any_number_of_terms(
    compiled: Kernel, numba: Kernel
) -> None:
    batch = part(0, 64)
    for count in (*range(LENGTHS), 1000):
        expected = bits(numba.run(batch, loop_only(count))["loop"])
        assert bits(compiled.run(batch, loop_only(count))["loop"]) == expected
        for index in range(64 if count == 1000 else 2):
            alone = compiled.run(part(index, index + 1), loop_only(count))["loop"]
            assert bits(alone)[0] == expected[index], count


@pytest.mark.parametrize("outer", [0, 1, 2, 3, 17])
def test_nested_of_any_row_length_equals_python(
    compiled: Kernel, python: Kernel, outer: int
) -> None:
    batch = part(0, 2)
    for inner in range(70):
        expected = python.run(batch, nested_only(outer, inner))["nested"]
        assert (compiled.run(batch, nested_only(outer, inner))["nested"] == expected).all()
        assert (compiled.run(batch, nested_only(inner, outer))["nested"] == expected).all()


def test_nested_is_exact_at_every_residue_and_at_its_largest_dividend(
    compiled: Kernel, python: Kernel
) -> None:
    offsets = np.concatenate(
        [np.arange(2000), 2**31 - 1 - np.arange(2000), 2**16 - 1000 + np.arange(2000)]
    )
    batch = {"value": np.zeros(len(offsets)), "offset": offsets}
    one = compiled.run(batch, nested_only(1, 1))["nested"]
    assert (one == offsets % 1000).all()
    # Counted by remainders: of 0 … 31_621, the first 622 occur 32 times and the others 31 times.
    remainders = np.arange(1000)
    times = np.where(remainders < 622, 32, 31)
    terms = (np.multiply.outer(remainders, remainders) + 2**31 - 1) % 1000
    expected = int((np.multiply.outer(times, times) * terms).sum())
    largest = {"value": np.zeros(1), "offset": np.array([2**31 - 1])}
    assert compiled.run(largest, nested_only(31_622, 31_622))["nested"][0] == expected
