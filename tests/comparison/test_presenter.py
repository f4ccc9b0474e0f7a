"""comparison.presenter, specs: a comparison as clients see it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hotloop.app.comparison.cautions import FLAG_TEXTS
from hotloop.app.comparison.presenter import comparison_view
from hotloop.app.comparison.record import BACKGROUND, CellId, ComparisonRecord, Size
from hotloop.app.comparison.specs import compare_request_of, compare_spec
from hotloop.app.names import TaskKind, TaskStatus, TaskType
from hotloop.app.prediction.machine import host_facts
from hotloop.app.schemas.base import SuggestedRun
from hotloop.app.schemas.comparison import Cell, CellFlag, CellStatus, CompareRequest, Comparison
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from tests.fixtures.made_up import ITEMS, MadeUpMachine, record_of, sample

SEQUENTIAL, SLOW, HYBRID, STORED = (
    CellId("sequential", "python"),
    CellId("sequential", "cython"),
    CellId("hybrid", "cython"),
    CellId(BACKGROUND, "cython"),
)
COSTS = {SEQUENTIAL: 8.0, SLOW: 2.0, HYBRID: 1.0, STORED: 0.5}


def asked_for(**body: Any) -> CompareRequest:
    values = {"items_count": ITEMS, "kernel": "cython"} | body
    return CompareRequest.model_validate_json(json.dumps(values))


def task_of(status: TaskStatus = TaskStatus.COMPLETED, **body: Any) -> Task:
    request = asked_for(**body)
    return Task(
        task_id=new_task_id(),
        task_type=TaskType.BACKGROUND,
        kind=TaskKind.COMPARISON,
        status=status,
        spec=compare_spec(request),
        workload="loops",
        kernel="",
        strategy="",
        total_items=1,
        created_at=utc_now(),
        owner="node",
    )


def shown(record: ComparisonRecord, status: TaskStatus = TaskStatus.COMPLETED) -> Comparison:
    stored = ComparisonRecord.from_json(json.loads(json.dumps(record.to_json())))
    assert stored == record
    return comparison_view(task_of(status), stored)


def measured(**arguments: Any) -> ComparisonRecord:
    return MadeUpMachine(COSTS).compare(record_of(COSTS, **arguments))


def cell_of(comparison: Comparison, cell: CellId) -> Cell:
    (found,) = (
        c for c in comparison.cells if (c.strategy, c.kernel) == (cell.strategy, cell.kernel)
    )
    return found


def test_figures_follow_from_the_rounds() -> None:
    view = shown(measured())
    hybrid = cell_of(view, HYBRID)
    assert hybrid.seconds == [1.0] * 5
    assert hybrid.median_seconds == 1.0
    assert hybrid.speedup == 8.0
    assert hybrid.efficiency == 2.0
    assert hybrid.throughput_items_per_second == ITEMS
    assert hybrid.spread == 0
    assert hybrid.flags == []
    assert (view.sequential_time, view.hybrid_time, view.background_time) == (2.0, 1.0, 0.5)
    assert view.threading_time is None
    assert (view.best_approach, view.improvement_factor) == ("hybrid", 2.0)


def test_background_never_wins() -> None:
    view = shown(measured())
    assert view.winner is not None
    assert view.winner.strategy == "hybrid"
    assert view.tied == []
    assert view.verdict.startswith("hybrid × cython is the fastest: 1 s")


def test_tied_cells_are_listed_and_named_in_the_verdict() -> None:
    record = measured()
    hybrid = next(cell for cell in record.cells if cell.cell == HYBRID)
    hybrid.samples = [replace(s, seconds=1.97) for s in hybrid.samples]
    view = shown(record)
    assert view.winner is None
    assert [(c.strategy, c.kernel) for c in view.tied] == [
        ("hybrid", "cython"),
        ("sequential", "cython"),
    ]
    assert view.best_approach == "hybrid = sequential"
    assert view.verdict.startswith("Tied: hybrid × cython, sequential × cython")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (TaskStatus.RUNNING, "is running"),
        (TaskStatus.CANCELLED, "was cancelled"),
        (TaskStatus.FAILED, "failed"),
    ],
)
def test_only_a_completed_comparison_has_a_verdict(status: TaskStatus, words: str) -> None:
    record = record_of(COSTS)
    record.cells[0].samples.append(sample(8.0, round_number=0))
    view = shown(record, status)
    assert (view.winner, view.suggested, view.best_approach) == (None, None, None)
    assert view.tied == []
    assert view.verdict == (f"No verdict: the comparison {words}, 1 of 24 measurements are done.")
    assert {cell.status for cell in view.cells} == {CellStatus.PENDING}
    assert view.outputs_equal is None


def test_cell_projected_from_one_item_never_wins() -> None:
    record = measured()
    for cell in record.cells:
        cell.samples = [replace(s, items=1, scale=1.0) for s in cell.samples]
    view = shown(record)
    assert (view.winner, view.tied) == (None, [])
    assert view.verdict.startswith("No winner: hybrid × cython has the least median")
    assert "projected from one item. Raise budget_seconds" in view.verdict
    hybrid = cell_of(view, HYBRID)
    assert CellFlag.ONE_ITEM in hybrid.flags
    assert FLAG_TEXTS[CellFlag.ONE_ITEM] in [caution.text for caution in view.cautions]
    assert hybrid.interval_seconds is not None
    assert hybrid.interval_seconds.low <= hybrid.median_seconds / 1.25  # type: ignore[operator]
    assert hybrid.interval_seconds.high >= hybrid.median_seconds * 1.25  # type: ignore[operator]


@pytest.mark.parametrize(
    ("batch_size", "workers", "flagged"),
    [(5_000, 1, True), (500, 2, True), (500, 1, False), (250, 4, False), ("auto", 1, False)],
)
def test_batch_size_that_leaves_workers_idle_is_flagged(
    batch_size: int | str, workers: int, flagged: bool
) -> None:
    record = record_of({CellId("threading", "cython"): 1.0, SLOW: 2.0})
    MadeUpMachine({CellId("threading", "cython"): 1.0, SLOW: 2.0}).compare(record)
    threading, _ = record.cells
    threading.samples = [replace(s, effective_workers=workers) for s in threading.samples]
    view = comparison_view(task_of(batch_size=batch_size, workers=4), record)
    flags = [CellFlag.IDLE_WORKERS in cell.flags for cell in view.cells]
    assert flags == [flagged, False]


def test_outputs_of_fewer_than_two_measured_cells_are_not_called_equal() -> None:
    record = measured(budget_seconds=1.0)
    for cell in record.cells:
        cell.samples = [sample(1.0, round_number=0, checksums={str(ITEMS): "c"})]
    view = shown(record, TaskStatus.FAILED)
    assert (view.outputs_equal, view.compared_cells) == (None, 0)


def test_suggested_run_is_the_winner_with_what_is_not_the_default() -> None:
    body = {"items_count": ITEMS, "kernel": "cython"}
    assert shown(measured()).suggested == SuggestedRun(strategy="hybrid", body=body)


@pytest.mark.parametrize(
    "body",
    [
        {"db": "none", "cache": "none", "workers": 2, "batch_size": 7},
        {"db_delay_ms": 3.0, "redis_delay_ms": (1.0, 2.0), "simulate_redis_delay": False},
        {"parameters": {"cpu_iterations": 5}, "timeout_seconds": 3.0, "max_error_rate": 0.5},
        {"rounds": 3, "budget_seconds": 60.0, "exact": True, "kernels": ("cython", "numba")},
    ],
)
def test_suggested_body_asks_for_the_same_run(body: dict[str, Any]) -> None:
    task = task_of(**body)
    suggested = comparison_view(task, measured()).suggested
    assert suggested is not None
    request = RunRequest.model_validate_json(json.dumps(suggested.body))
    asked = asked_for(**body)
    for name in RunRequest.model_fields:
        if name not in ("db", "cache"):
            assert getattr(request, name) == getattr(asked, name), name
    assert (request.db_source, request.cache_source) == (asked.db_source, asked.cache_source)
    again = compare_request_of(task.spec)
    assert (again.rounds, again.exact, again.kernels) == (asked.rounds, asked.exact, asked.kernels)


def test_suggested_run_has_a_few_items_and_no_more() -> None:
    row = {"item_id": 1, "value": 0.5, "offset": 7}
    found = []
    for count in (2, 21):
        asked = CompareRequest.model_validate_json(
            json.dumps({"items": [row] * count, "kernel": "cython"})
        )
        task = replace(task_of(), spec=compare_spec(asked))
        found.append(comparison_view(task, measured()).suggested)
    body = {"items": [row] * 2, "kernel": "cython"}
    assert found == [SuggestedRun(strategy="hybrid", body=body), None]


def test_projected_cell_says_so() -> None:
    record = record_of(COSTS)
    record.cells[0].sizes = (Size(100, 5_000, 0.8), Size(50, 5_000, 0.4))
    view = shown(MadeUpMachine(COSTS).compare(record))
    cell = cell_of(view, SEQUENTIAL)
    assert cell.status is CellStatus.PROJECTED
    assert cell.measured_items == 100
    assert cell.median_seconds == pytest.approx(8.0)
    assert cell.interval_seconds is not None
    assert cell.interval_seconds.high > 8.5
    assert "50 and 100 of 1,000 items" in (cell.reason or "")


def test_skipped_cell_has_its_reason_and_no_figures() -> None:
    record = record_of(COSTS)
    record.cells[0].reason = "it was not built"
    cell = cell_of(shown(MadeUpMachine(COSTS).compare(record)), SEQUENTIAL)
    assert (cell.status, cell.reason, cell.rounds) == (CellStatus.SKIPPED, "it was not built", 0)
    assert (cell.median_seconds, cell.interval_seconds, cell.speedup) == (None, None, None)


def test_cell_with_failed_items_does_not_win() -> None:
    record = measured()
    hybrid = next(cell for cell in record.cells if cell.cell == HYBRID)
    hybrid.samples = [replace(s, failed_items=3) for s in hybrid.samples]
    view = shown(record)
    assert view.winner is not None
    assert (view.winner.strategy, view.winner.kernel) == ("sequential", "cython")
    assert cell_of(view, HYBRID).flags == [CellFlag.FAILED_ITEMS]


def test_different_outputs_are_in_the_answer() -> None:
    record = measured()
    for number, cell in enumerate(record.cells[1:]):
        cell.samples = [replace(s, checksums={str(ITEMS): f"{number}"}) for s in cell.samples]
    view = shown(record, TaskStatus.FAILED)
    assert view.outputs_equal is False
    assert len(view.mismatches) == 2
    assert view.winner is None


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"seconds": 0.0005}, CellFlag.SHORT_SAMPLE),
        ({"throttled_periods": 2, "throttled_seconds": 0.1}, CellFlag.THROTTLED),
        ({"disturbed": True}, CellFlag.DISTURBED),
        ({"failed_items": 1}, CellFlag.FAILED_ITEMS),
    ],
)
def test_disturbance_of_a_round_flags_its_cell(changes: dict[str, Any], flag: CellFlag) -> None:
    record = measured()
    cell = record.cells[0]
    cell.samples[2] = replace(cell.samples[2], **changes)
    assert flag in cell_of(shown(record), SEQUENTIAL).flags
    assert flag not in cell_of(shown(record), SLOW).flags


@pytest.mark.parametrize(
    ("seconds", "flags"),
    [
        ([8.0, 8.1, 8.2, 8.1, 8.0], set()),
        ([8.0, 8.1, 8.0, 8.1, 30.0], {CellFlag.OUTLIERS}),
        ([7.0, 8.0, 9.0, 10.0, 11.0], {CellFlag.WIDE_SPREAD}),
        ([8.0, 8.0, 8.0], {CellFlag.FEW_ROUNDS}),
    ],
)
def test_how_rounds_vary_flags_their_cell(seconds: list[float], flags: set[CellFlag]) -> None:
    record = measured()
    record.cells[0].samples = [sample(8.0, round_number=0)] + [
        sample(value, round_number=number) for number, value in enumerate(seconds, start=1)
    ]
    cell = cell_of(shown(record), SEQUENTIAL)
    assert set(cell.flags) == flags
    assert cell.seconds == seconds  # outliers are kept


def test_short_rounds_have_no_cpu_utilization() -> None:
    record = measured()
    short = [replace(s, seconds=0.01) for s in record.cells[0].samples]
    record.cells[0].samples = short
    assert cell_of(shown(record), SEQUENTIAL).cpu_utilization is None
    assert cell_of(shown(record), SLOW).cpu_utilization == 0.5


def test_verdict_warns_of_a_busy_machine() -> None:
    record = measured()
    record.host = host_facts((), "loops") | {"usable_cpus": 2, "load_before": 1.9}
    assert "busy" not in shown(record).verdict
    record.host["load_before"] = 7.5
    assert "busy with something else (load 7.5 on 2 CPUs)" in shown(record).verdict
