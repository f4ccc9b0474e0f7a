"""The view of a comparison for clients, during and after its execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from hotloop.app.comparison.cautions import cautions
from hotloop.app.comparison.equality import compared_cells, differences
from hotloop.app.comparison.intervals import outliers, spread, trusted_interval
from hotloop.app.comparison.projection import widened
from hotloop.app.comparison.record import (
    BACKGROUND,
    CellId,
    CellRecord,
    ComparisonRecord,
    Sample,
)
from hotloop.app.comparison.specs import run_body
from hotloop.app.comparison.verdict import contenders, judge, verdict_text
from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.prediction.plan import leaves_workers_idle
from hotloop.app.schemas.base import SuggestedRun
from hotloop.app.schemas.comparison import (
    Cell,
    CellFlag,
    CellName,
    CellStatus,
    Comparison,
    HostView,
    IntervalView,
    Mismatch,
)
from hotloop.app.tasks.model import Task
from hotloop.kernels.contract import REFERENCE

WIDE_SPREAD: Final = 0.1
SHORT_SECONDS: Final = 0.001
CPU_SECONDS: Final = 0.1
"""The shortest round with a CPU utilisation: the system's clock of CPU time has ticks of 10 ms."""

_TIMES: Final = {
    "sequential_time": StrategyName.SEQUENTIAL,
    "threading_time": StrategyName.THREADING,
    "multiprocessing_time": StrategyName.MULTIPROCESSING,
    "batch_async_time": StrategyName.ASYNC_BATCH,
    "concurrent_futures_time": StrategyName.CONCURRENT_FUTURES,
    "hybrid_time": StrategyName.HYBRID,
    "background_time": BACKGROUND,
}


def comparison_view(task: Task, record: ComparisonRecord) -> Comparison:
    """Return the comparison so far, with a verdict only if it completed."""
    spec, kernel = task.spec, task.spec["kernel"]
    cells, compared = _cells(record, spec), compared_cells(record)
    times: dict[str, Any] = {
        name: _median(cells, CellId(str(strategy), kernel)) for name, strategy in _TIMES.items()
    }
    mismatches = [
        Mismatch(cells=[_name(cell) for cell in found.cells], detail=found.detail)
        for found in differences(record)
    ]
    ended = task.status is TaskStatus.COMPLETED
    overall = judge(contenders(cells)) if ended else None
    fastest = [_name(cells[index]) for index in overall.fastest] if overall else []
    on_kernel = judge(contenders(cells, kernel)) if ended else None
    best = [cells[i].strategy for i in on_kernel.fastest] if on_kernel else []
    best_time = _median(cells, CellId(str(best[0]), kernel)) if best else None
    sequential = times["sequential_time"]
    return Comparison(
        task_id=task.task_id,
        task_type=TaskType(task.task_type),
        status=task.status,
        workload=task.workload,
        kernel=kernel,
        items_count=record.items_count,
        workers=record.workers,
        batch_size=spec["batch_size"],
        io_concurrency=spec["io_concurrency"],
        rounds=record.rounds,
        budget_seconds=record.budget_seconds,
        setup_budget_seconds=record.setup_budget_seconds,
        exact=record.exact,
        start_time=task.start_time,
        end_time=task.end_time,
        duration_seconds=record.duration_seconds,
        setup_seconds=record.setup_seconds,
        error_message=task.error_message,
        **times,
        best_approach=" = ".join(best) or None,
        improvement_factor=sequential / best_time if sequential and best_time else None,
        cells=cells,
        winner=fastest[0] if overall and overall.winner is not None else None,
        tied=fastest if len(fastest) > 1 else [],
        verdict=verdict_text(task.status, record, cells, overall),
        outputs_equal=False if mismatches else (True if compared else None),
        compared_cells=len(compared),
        mismatches=mismatches,
        cautions=cautions(cells),
        host=HostView.model_validate(record.host, extra="ignore") if record.host else None,
        suggested=None if overall is None else _suggested(spec, cells[overall.fastest[0]]),
    )


def _cells(record: ComparisonRecord, spec: Mapping[str, Any]) -> list[Cell]:
    medians = {
        cell.cell: median(s.full_seconds for s in cell.timed)
        for cell in record.cells
        if cell.timed and not cell.is_skipped
    }
    return [_cell(record, cell, medians, spec) for cell in record.cells]


def _cell(
    record: ComparisonRecord,
    cell: CellRecord,
    medians: Mapping[CellId, float],
    spec: Mapping[str, Any],
) -> Cell:
    timed = [] if cell.is_skipped else cell.timed
    seconds = [s.full_seconds for s in timed]
    middle = medians.get(cell.cell)
    workers = max((s.effective_workers for s in timed), default=None)
    baseline = medians.get(CellId(StrategyName.SEQUENTIAL, REFERENCE))
    own = medians.get(CellId(StrategyName.SEQUENTIAL, cell.cell.kernel))
    projected = any(s.items < record.items_count for s in timed)
    held_back = [s.throttled_seconds for s in timed if s.throttled_seconds is not None]
    name = _name(cell.cell)
    return Cell(
        strategy=name.strategy,
        kernel=name.kernel,
        status=_status(cell, projected),
        reason=cell.reason or (_projected_from(record, timed) if projected else None),
        median_seconds=middle,
        interval_seconds=_interval(timed, record.items_count),
        seconds=seconds,
        rounds=len(timed),
        batch_size=cell.batch_size,
        measured_items=max((s.items for s in timed), default=0),
        spread=spread(seconds) if seconds else None,
        speedup=baseline / middle if baseline and middle else None,
        efficiency=own / middle / workers if own and middle and workers else None,
        throughput_items_per_second=record.items_count / middle if middle else None,
        effective_workers=workers,
        cpu_utilization=_utilization(timed),
        peak_memory_bytes=cell.warm_up.peak_memory_bytes if cell.warm_up else None,
        setup_seconds=cell.warm_up.setup_seconds if cell.warm_up else None,
        event_loop_lag_p99_ms=max(
            (s.lag_p99_ms for s in timed if s.lag_p99_ms is not None), default=None
        ),
        throttled_seconds=sum(held_back) if held_back else None,
        checksum=_checksum(timed),
        failed_items=max((s.failed_items for s in timed), default=0),
        flags=_flags(record, cell, timed, spec),
    )


def _status(cell: CellRecord, projected: bool) -> CellStatus:
    if cell.is_skipped:
        return CellStatus.SKIPPED
    if not cell.timed:
        return CellStatus.PENDING
    return CellStatus.PROJECTED if projected else CellStatus.MEASURED


def _projected_from(record: ComparisonRecord, timed: Sequence[Sample]) -> str:
    counts = " and ".join(f"{n:,}" for n in sorted({s.items for s in timed}))
    most = max(s.scale for s in timed)
    return (
        f"measured on {counts} of {record.items_count:,} items and multiplied by the ratio of "
        f"estimates, at most {most:,.4g}: all items would take too much of the budget"
    )


def _interval(timed: Sequence[Sample], items_count: int) -> IntervalView | None:
    if not timed:
        return None
    found = trusted_interval([s.full_seconds for s in timed])
    if any(s.items < items_count for s in timed):
        found = widened(found, timed, items_count)
    return IntervalView(low=found.low, high=found.high)


def _checksum(timed: Sequence[Sample]) -> str | None:
    """Return the checksum over the items of the largest round."""
    if not timed:
        return None
    largest = max(timed, key=lambda s: s.items)
    return largest.checksums.get(str(largest.items))


def _flags(
    record: ComparisonRecord, cell: CellRecord, timed: Sequence[Sample], spec: Mapping[str, Any]
) -> list[CellFlag]:
    if not timed:
        return []
    seconds = [s.full_seconds for s in timed]
    used = max(s.effective_workers for s in timed)
    held = {
        CellFlag.OUTLIERS: bool(outliers(seconds)),
        CellFlag.WIDE_SPREAD: spread(seconds) > WIDE_SPREAD,
        CellFlag.SHORT_SAMPLE: any(s.seconds < SHORT_SECONDS for s in timed),
        CellFlag.FEW_ROUNDS: len(timed) < record.rounds,
        CellFlag.THROTTLED: any(s.throttled_periods or s.throttled_seconds for s in timed),
        CellFlag.DISTURBED: any(s.disturbed for s in timed),
        CellFlag.FAILED_ITEMS: any(s.failed_items for s in timed),
        CellFlag.IDLE_WORKERS: cell.cell.strategy != BACKGROUND
        and leaves_workers_idle(cell.cell.strategy, spec, [record.items_count], used),
        CellFlag.ONE_ITEM: record.items_count > 1 and any(s.items == 1 for s in timed),
    }
    return [flag for flag, holds in held.items() if holds]


def _utilization(timed: Sequence[Sample]) -> float | None:
    if not timed or any(s.seconds < CPU_SECONDS for s in timed):
        return None
    return median(s.cpu_utilization for s in timed)


def _name(cell: CellId | Cell) -> CellName:
    return CellName.model_validate(cell, from_attributes=True)


def _median(cells: Sequence[Cell], cell: CellId) -> float | None:
    for found in cells:
        if (found.strategy, found.kernel) == (cell.strategy, cell.kernel):
            return found.median_seconds
    return None


def _suggested(spec: Mapping[str, Any], cell: Cell) -> SuggestedRun | None:
    body = run_body(spec, cell.kernel)
    return None if body is None else SuggestedRun(strategy=cell.strategy, body=body)
