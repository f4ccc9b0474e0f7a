"""Parts of a budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.app.comparison.schedule import shares, shuffled

COSTS = st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("budget", "costs", "expected"),
    [
        (10, [1, 2, 3], [1, 2, 3]),
        (9, [1, 100, 100], [1, 4, 4]),
        (9, [100, 1, 100], [4, 1, 4]),
        (6, [100, 100, 100], [2, 2, 2]),
        (0, [1, 1], [0, 0]),
        (-5, [1, 1], [0, 0]),
        (5, [], []),
    ],
)
def test_who_needs_less_than_a_part_leaves_the_rest(
    budget: float, costs: list[float], expected: list[float]
) -> None:
    assert shares(budget, costs) == pytest.approx(expected)


@given(budget=st.floats(min_value=0, max_value=1e6), costs=COSTS)
def test_parts_are_never_more_than_there_is_or_than_is_needed(
    budget: float, costs: list[float]
) -> None:
    given_parts = shares(budget, costs)
    assert sum(given_parts) <= budget * (1 + 1e-9)
    assert all(0 <= part <= cost for part, cost in zip(given_parts, costs, strict=True))
    if sum(costs) <= budget:
        assert given_parts == pytest.approx(costs)


def test_order_is_a_permutation() -> None:
    assert sorted(shuffled(range(20), "seed", 3)) == list(range(20))
    assert shuffled(range(20), "seed", 3) != shuffled(range(20), "seed", 4)
