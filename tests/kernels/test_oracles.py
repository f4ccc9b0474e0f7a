"""Every kernel against the third opinion, on small sizes."""

import pytest

from hotloop.kernels import Kernel
from tests.kernels.cases import EDGE_OFFSETS, EDGE_VALUES, columns_of
from tests.kernels.oracles import exact_loop, exact_nested

ITERATIONS = (0, 1, 2, 3, 50, 400)
SHAPES = ((0, 5), (5, 0), (1, 1), (2, 3), (7, 1001), (1003, 4), (40, 50))


@pytest.mark.parametrize("cpu_iterations", ITERATIONS)
def test_loop_is_within_the_error_bound_of_the_exact_sum(
    kernel: Kernel, cpu_iterations: int
) -> None:
    columns = columns_of(EDGE_VALUES, [0] * len(EDGE_VALUES))
    result = kernel.run(columns, {"cpu_iterations": cpu_iterations, "outer_iterations": 0})
    for value, computed in zip(EDGE_VALUES, result["loop"].tolist(), strict=True):
        exact, bound = exact_loop(value, cpu_iterations)
        assert abs(computed - exact) <= bound, (value, computed, exact)


@pytest.mark.parametrize(("outer", "inner"), SHAPES)
def test_nested_equals_the_exact_count(kernel: Kernel, outer: int, inner: int) -> None:
    offsets = EDGE_OFFSETS if outer * inner < 100 else EDGE_OFFSETS[-4:]
    columns = columns_of([0.0] * len(offsets), offsets)
    parameters = {"cpu_iterations": 0, "outer_iterations": outer, "inner_iterations": inner}
    computed = kernel.run(columns, parameters)["nested"].tolist()
    assert computed == [exact_nested(offset, outer, inner) for offset in offsets]


def test_nested_is_exact_when_its_sum_is_wider_than_32_bits(compiled: Kernel) -> None:
    parameters = {
        "cpu_iterations": 0,
        "outer_iterations": 100_000,
        "inner_iterations": 100,
    }
    computed = compiled.run(columns_of([0.0], [2**31 - 1]), parameters)["nested"][0]
    # The remainders of the outer count repeat 100 times.
    assert computed > 2**32
    assert computed == 100 * exact_nested(2**31 - 1, 1000, 100)


def test_bound_detects_a_wrong_last_digit() -> None:
    exact, bound = exact_loop(1.0, 50)
    assert 0 < bound < 1e-12 * abs(exact)
