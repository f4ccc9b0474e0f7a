"""comparison.verdict, intervals: a winner only if it is certain, never one really slower."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from hotloop.app.comparison.intervals import Interval, trusted_interval
from hotloop.app.comparison.record import CellId, ComparisonRecord
from hotloop.app.comparison.verdict import Contender, Verdict, judge
from tests.fixtures.made_up import MadeUpMachine, record_of

SLOWER = 1.05
COMPARISONS = 60
"""Comparisons for each kind of machine."""

MACHINES: dict[str, dict[str, Any]] = {
    "calm": {"noise": 0.01},
    "usual": {"noise": 0.03, "outlier_share": 0.05},
    "noisy": {"noise": 0.10, "outlier_share": 0.10},
    "wild": {"noise": 0.40, "outlier_share": 0.10},
    "drifting": {"noise": 0.03, "drift": 0.01},
}

COSTS = {
    CellId(strategy, kernel): cost
    for strategy, kernel, cost in (
        ("sequential", "python", 3.0),
        ("sequential", "cython", 1.30),
        ("threading", "cython", 1.0 * SLOWER**2),
        ("multiprocessing", "cython", 1.0 * SLOWER),
        ("async-batch", "cython", 1.0 * SLOWER),
        ("hybrid", "cython", 1.0),
        ("hybrid", "numba", 1.0 * SLOWER),
    )
}


def verdict_of(record: ComparisonRecord) -> Verdict:
    contenders = [
        Contender(index, trusted_interval([s.full_seconds for s in cell.timed]))
        for index, cell in enumerate(record.cells)
    ]
    verdict = judge(contenders)
    assert verdict is not None
    return verdict


def compared(seed: int, rounds: int, **machine: Any) -> tuple[list[CellId], bool]:
    """The fastest cells by the verdict, and whether it names a winner."""
    record = MadeUpMachine(COSTS, seed, **machine).compare(record_of(COSTS, rounds=rounds))
    verdict = verdict_of(record)
    return [record.cells[i].cell for i in verdict.fastest], verdict.winner is not None


@pytest.mark.parametrize("machine", sorted(MACHINES))
@pytest.mark.parametrize("rounds", [1, 2, 3, 5, 12])
def test_no_winner_is_really_slower_by_five_percent(machine: str, rounds: int) -> None:
    for seed in range(COMPARISONS):
        fastest, is_winner = compared(seed, rounds, **MACHINES[machine])
        if is_winner:
            assert COSTS[fastest[0]] < SLOWER * min(COSTS.values()), (seed, fastest)


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_comparisons_of_the_same_cells_name_the_same_winner_or_a_tie(machine: str) -> None:
    named = set()
    for seed in range(COMPARISONS):
        fastest, is_winner = compared(seed, 5, **MACHINES[machine])
        named |= set(fastest) if is_winner else set()
    assert len(named) <= 1


def test_clear_winner_is_named() -> None:
    """The rules are not so strict that nothing ever wins."""
    costs = {CellId("hybrid", "cython"): 1.0, CellId("sequential", "cython"): 1.2}
    won = 0
    for seed in range(100):
        machine = MadeUpMachine(costs, seed, noise=0.02)
        won += verdict_of(machine.compare(record_of(costs))).fastest == (0,)
    assert won >= 95


def test_drift_favours_no_cell() -> None:
    """A fixed order of cells would make the last cell slower by half."""
    costs = {CellId("sequential", f"k{n}"): 1.0 for n in range(6)}
    medians: dict[CellId, list[float]] = {cell: [] for cell in costs}
    for seed in range(200):
        machine = MadeUpMachine(costs, seed, drift=0.02)
        for cell in machine.compare(record_of(costs), seed=str(seed)).cells:
            medians[cell.cell].append(median(s.seconds for s in cell.timed))
    means = [sum(values) / len(values) for values in medians.values()]
    assert max(means) / min(means) < 1.02


def interval(low: float, middle: float, high: float) -> Interval:
    return Interval(middle, low, high)


@pytest.mark.parametrize(
    ("intervals", "fastest"),
    [
        ([interval(0.9, 1.0, 1.1), interval(1.2, 1.3, 1.4)], (0,)),
        ([interval(1.2, 1.3, 1.4), interval(0.9, 1.0, 1.1)], (1,)),
        ([interval(0.9, 1.0, 1.21), interval(1.2, 1.3, 1.4)], (0, 1)),
        ([interval(0.99, 1.0, 1.01), interval(1.02, 1.03, 1.04)], (0, 1)),
        ([interval(0.9, 1.0, 1.1), interval(1.2, 1.3, 1.4), interval(1.05, 2.0, 3.0)], (0, 2)),
        ([interval(0.9, 1.0, 1.1)], (0,)),
    ],
)
def test_winner_stands_clear_of_every_other(
    intervals: list[Interval], fastest: tuple[int, ...]
) -> None:
    verdict = judge([Contender(index, found) for index, found in enumerate(intervals)])
    assert verdict is not None
    assert verdict.fastest == fastest
    assert verdict.winner == (fastest[0] if len(fastest) == 1 else None)


def test_comparison_without_measurements_has_no_verdict() -> None:
    assert judge([]) is None


def test_interval_of_one_round_is_a_factor_of_three() -> None:
    found = trusted_interval([3.0])
    assert (found.low, found.median, found.high) == (1.0, 3.0, 9.0)


@pytest.mark.parametrize("count", [2, 3, 4, 5, 10])
def test_interval_of_few_rounds_reaches_beyond_them(count: int) -> None:
    seconds = [1.0 + n / 100 for n in range(count)]
    found = trusted_interval(seconds)
    assert found.low < min(seconds) or count > 4
    assert found.low <= found.median <= found.high


def test_interval_of_equal_rounds_has_no_width() -> None:
    found = trusted_interval([2.0] * 5)
    assert found.low == pytest.approx(2.0)
    assert found.high == pytest.approx(2.0)


def test_cell_that_may_not_win_ties_only_with_cells_near_it() -> None:
    first = Contender(0, Interval(1.0, 0.9, 1.1), may_win=False)
    assert judge([first]) == Verdict((0,), may_win=False)
    assert Verdict((0,), may_win=False).winner is None
    far = Contender(1, Interval(10.0, 9.0, 11.0))
    assert judge([first, far]) == Verdict((0,), may_win=False)
    near = Contender(1, Interval(1.02, 0.9, 1.1))
    assert judge([first, near]) == Verdict((0, 1), may_win=False)
