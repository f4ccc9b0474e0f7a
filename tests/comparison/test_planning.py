"""The cells of a comparison, and the share of the budget of each."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.app.comparison.planning import (
    cell_ids,
    exact_seconds,
    make_plans,
    plan_record,
    resolve,
    setup_seconds_of,
    shares,
)
from hotloop.app.comparison.record import BACKGROUND, CellId, ComparisonRecord
from hotloop.app.errors import InvalidRequestError
from hotloop.app.names import StrategyName
from hotloop.app.prediction.memory import MemoryBudget
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.pools import PoolLimits
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from hotloop.kernels import known_kernels
from tests.fixtures.calibrations import ideal


def report(kernel: str, ns: float, *, available: bool = True) -> KernelReport:
    return KernelReport(
        workload="loops",
        kernel=kernel,
        available=available,
        reason=None if available else f"{kernel} was not built",
        releases_gil=kernel != "python",
        instruction_set=None,
        warm_up_seconds=2.0,
        ns_per_operation={"loop": ns, "nested": ns} if available else {},
    )


REPORTS = (report("python", 90.0), report("cython", 2.0), report("numba", 3.0))


def estimate(plan: Plan, reports: tuple[KernelReport, ...] = REPORTS) -> float:
    return estimate_seconds(plan, ideal(reports))


def planned(
    *,
    reports: tuple[KernelReport, ...] = REPORTS,
    available_bytes: int = 64 << 30,
    **body: Any,
) -> ComparisonRecord:
    request = resolve(CompareRequest(**body), reports)
    items = GeneratedItems(request.total_items)
    guess = partial(estimate, reports=reports)
    plans, reasons = make_plans(request, items, reports, ideal(reports), Settings(), guess)
    setup = setup_seconds_of(plans, reports, ideal(reports))
    memory = MemoryBudget(available_bytes, PoolLimits(256, 64, 2))
    return plan_record(request, LOCAL_STRATEGIES, plans, reasons, guess, memory, setup)


def test_everything_is_compared_and_the_background_on_the_fastest_kernel() -> None:
    ids = cell_ids(resolve(CompareRequest(), REPORTS), LOCAL_STRATEGIES)
    assert ids[:3] == [CellId("sequential", kernel) for kernel in known_kernels("loops")]
    assert len(ids) == 6 * 3 + 1
    assert ids[-1] == CellId(BACKGROUND, "cython")


def test_background_is_left_out_where_strategies_are_named() -> None:
    request = CompareRequest(strategies=(StrategyName.HYBRID,), kernels=("numba",))
    assert cell_ids(resolve(request, REPORTS), LOCAL_STRATEGIES) == [CellId("hybrid", "numba")]
    assert resolve(request, REPORTS).kernel == "numba"


def test_unavailable_kernel_is_skipped_with_its_reason() -> None:
    reports = (REPORTS[0], report("cython", 2.0, available=False), REPORTS[2])
    record = planned(reports=reports, items_count=10)
    skipped = {cell.cell.kernel: cell.reason for cell in record.cells if cell.is_skipped}
    assert skipped == {"cython": "cython was not built"}
    assert record.planned == 13 * 6


def test_comparison_without_available_kernel_is_refused() -> None:
    reports = tuple(report(kernel, 1.0, available=False) for kernel in known_kernels("loops"))
    with pytest.raises(InvalidRequestError, match="python was not built"):
        resolve(CompareRequest(), reports)


def test_cell_that_needs_too_much_memory_is_skipped() -> None:
    record = planned(items_count=100_000, batch_size=100, workers=64, available_bytes=2 << 30)
    skipped = {cell.cell.strategy for cell in record.cells if cell.is_skipped}
    assert {"multiprocessing", "concurrent-futures"} <= skipped
    assert "sequential" not in skipped
    (reason,) = {c.reason for c in record.cells if c.cell == CellId("multiprocessing", "numba")}
    assert "MiB" in (reason or "")
    assert not any(cell.is_skipped for cell in planned(items_count=10).cells)


def test_delays_of_a_second_leave_the_fast_cells_whole() -> None:
    record = planned(items_count=1_000)
    for cell in record.cells:
        whole = cell.sizes == (cell.sizes[0],) and cell.sizes[0].items == 1_000
        fast = cell.cell.strategy in ("async-batch", "hybrid", BACKGROUND)
        if cell.cell.kernel != "python":
            assert whole == fast, cell
        if not fast:
            share = 1.0 if cell.cell.strategy == "sequential" else 0.25
            assert cell.full_estimate == pytest.approx(share * 1_006, rel=0.01)
            assert cell.scale(cell.sizes[0]) > 100


@pytest.mark.parametrize("budget", [60.0, 120.0, 1_000.0])
@pytest.mark.parametrize("items", [100, 20_000, 1_000_000])
def test_plan_stays_within_the_budget(budget: float, items: int) -> None:
    record = planned(items_count=items, db="none", cache="none", budget_seconds=budget, rounds=5)
    expected = sum(6 * max(size.estimate for size in cell.sizes) for cell in record.cells)
    assert expected <= budget


def test_exact_measures_everything_whole() -> None:
    record = planned(items_count=1_000, exact=True)
    assert all(size.items == 1_000 for cell in record.cells for size in cell.sizes)
    # Four workers take a quarter.
    assert exact_seconds(record) > 2 * (3 * 1_000 + 9 * 250)


@pytest.mark.parametrize(
    ("body", "field"),
    [({"workload": "knots"}, "workload"), ({"db": "pinot"}, "db"), ({"cache": "x"}, "cache")],
)
def test_request_that_no_cell_can_meet_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        planned(**body)
    assert raised.value.field == field


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
def test_smaller_costs_leave_their_rest_to_the_others(
    budget: float, costs: list[float], expected: list[float]
) -> None:
    assert shares(budget, costs) == pytest.approx(expected)


@given(budget=st.floats(min_value=0, max_value=1e6), costs=COSTS)
def test_shares_never_exceed_the_budget_or_the_costs(budget: float, costs: list[float]) -> None:
    given_parts = shares(budget, costs)
    assert sum(given_parts) <= budget * (1 + 1e-9)
    assert all(0 <= part <= cost for part, cost in zip(given_parts, costs, strict=True))
    if sum(costs) <= budget:
        assert given_parts == pytest.approx(costs)
