"""A comparison as clients see it, while it goes on and when it has ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from shlex import quote
from statistics import median
from typing import Any, Final

from hotloop.app.comparison.cautions import cautions
from hotloop.app.comparison.equality import compared_cells, differences
from hotloop.app.comparison.intervals import outliers, spread
from hotloop.app.comparison.projection import widened
from hotloop.app.comparison.record import (
    BACKGROUND,
    CellId,
    CellRecord,
    ComparisonRecord,
    Sample,
)
from hotloop.app.comparison.specs import BASE_URL, run_body
from hotloop.app.comparison.verdict import Verdict, judge, trusted_interval
from hotloop.app.comparison.verdict_text import contenders, words
from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.prediction.batch_size import leaves_workers_idle
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
from hotloop.app.schemas.links import TaskLinks
from hotloop.app.tasks.model import Task
from hotloop.kernels.contract import REFERENCE

WIDE_SPREAD: Final = 0.1
SHORT_SECONDS: Final = 0.001
CPU_SECONDS: Final = 0.1
"""Below, what the system's clock of CPU time, which has ticks of 10 ms, says is mostly chance."""

_TIMES: Final = {
    "sequential_time": StrategyName.SEQUENTIAL,
    "threading_time": StrategyName.THREADING,
    "multiprocessing_time": StrategyName.MULTIPROCESSING,
    "batch_async_time": StrategyName.ASYNC_BATCH,
    "concurrent_futures_time": StrategyName.CONCURRENT_FUTURES,
    "hybrid_time": StrategyName.HYBRID,
    "background_time": BACKGROUND,
}


def comparison_view(task: Task, record: ComparisonRecord, links: TaskLinks) -> Comparison:
    """What there is so far; the verdict only when all went well to the end."""
    spec, kernel = task.spec, task.spec["kernel"]
    cells, compared = _cells(record, spec), compared_cells(record)
    times = {
        name: _median(cells, CellId(str(strategy), kernel)) for name, strategy in _TIMES.items()
    }
    mismatches = [
        Mismatch(cells=[_name(cell) for cell in found.cells], detail=found.detail)
        for found in differences(record)
    ]
    ended = task.status is TaskStatus.COMPLETED
    overall = judge(contenders(cells)) if ended else None
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
        winner=None if overall is None else _winner(cells, overall),
        tied=[] if overall is None or len(overall.fastest) == 1 else _named(cells, overall),
        verdict=words(task.status, record, cells, overall),
        outputs_equal=False if mismatches else (True if compared else None),
        compared_cells=len(compared),
        mismatches=mismatches,
        cautions=cautions(cells),
        host=HostView.model_validate(record.host, extra="ignore") if record.host else None,
        curl=None if overall is None else _curl(spec, cells[overall.fastest[0]]),
        links=links,
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
    flags = _flags(record, cell, timed, spec)
    baseline = medians.get(CellId(StrategyName.SEQUENTIAL, REFERENCE))
    own = medians.get(CellId(StrategyName.SEQUENTIAL, cell.cell.kernel))
    projected = any(s.items < record.items_count for s in timed)
    return Cell(
        strategy=_strategy(cell.cell),
        kernel=cell.cell.kernel,
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
        event_loop_lag_p99_ms=_most(timed, lambda s: s.lag_p99_ms),
        throttled_seconds=_total(timed, lambda s: s.throttled_seconds),
        checksum=_checksum(timed),
        failed_items=max((s.failed_items for s in timed), default=0),
        flags=flags,
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
        f"estimates, at most {most:,.4g}: all of them would take too much of the budget"
    )


def _interval(timed: Sequence[Sample], items_count: int) -> IntervalView | None:
    if not timed:
        return None
    found = trusted_interval([s.full_seconds for s in timed])
    if any(s.items < items_count for s in timed):
        found = widened(found, timed, items_count)
    return IntervalView(low=found.low, high=found.high)


def _checksum(timed: Sequence[Sample]) -> str | None:
    """Over the items of the largest round."""
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


def _most(samples: Sequence[Sample], value: Callable[[Sample], Any]) -> Any:
    return max((value(s) for s in samples if value(s) is not None), default=None)


def _total(samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> float | None:
    known = [v for s in samples if (v := value(s)) is not None]
    return sum(known) if known else None


def _winner(cells: Sequence[Cell], verdict: Verdict) -> CellName | None:
    return None if verdict.winner is None else _name_of(cells[verdict.winner])


def _named(cells: Sequence[Cell], verdict: Verdict) -> list[CellName]:
    return [_name_of(cells[index]) for index in verdict.fastest]


def _name_of(cell: Cell) -> CellName:
    return CellName(strategy=cell.strategy, kernel=cell.kernel)


def _name(cell: CellId) -> CellName:
    return CellName(strategy=_strategy(cell), kernel=cell.kernel)


def _strategy(cell: CellId) -> Any:
    return cell.strategy if cell.strategy == BACKGROUND else StrategyName(cell.strategy)


def _median(cells: Sequence[Cell], cell: CellId) -> float | None:
    for found in cells:
        if (found.strategy, found.kernel) == (cell.strategy, cell.kernel):
            return found.median_seconds
    return None


def _curl(spec: Mapping[str, Any], cell: Cell) -> str | None:
    body = run_body(spec, cell.kernel)
    if body is None:
        return None
    url = quote(f"{spec[BASE_URL]}/api/v1/tasks/{cell.strategy}")
    return f"curl -s {url} -H 'Content-Type: application/json' -d {quote(json.dumps(body))}"
