"""Tasks as clients see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from app.names import StrategyName, TaskKind, TaskStatus, TaskType
from app.root_path import link_to
from app.schemas.links import TaskLinks
from app.schemas.options import AUTO
from app.schemas.results import ResultRow, RunFlag, RunResult, StageView
from app.schemas.tasks import Shards, TaskSummary, TaskView
from app.services.batch_size import leaves_workers_idle
from app.services.comparison.record import ComparisonRecord
from app.services.comparison.view import comparison_view
from app.tasks.model import FINISHED, UNFINISHED, Shard, Task, utc_now
from app.tasks.nodes import A_RUN_HOST, waits_of_nodes
from app.tasks.store import TaskStore
from kernels import KernelName

BASE_PATH: Final = "/api/v1/tasks"


KEPT_RESULTS: Final = 5

Waits = Mapping[str, str | None]
"""What each node waits for before it executes tasks, by its id."""

NO_WAITS: Final[Waits] = MappingProxyType({})


def task_result(store: TaskStore, task_id: str) -> RunResult:
    """The result of a task that has ended. Blocks; raises TaskNotFoundError, StoreError."""
    return _result(store, *store.with_shards(task_id))


def _result(store: TaskStore, task: Task, shards: Sequence[Shard]) -> RunResult:
    reader = store.results(task.task_id)
    head = [] if reader is None else reader.head(KEPT_RESULTS)
    return run_result(task, shards, head)


def run_result(
    task: Task, shards: Sequence[Shard], results: list[dict[str, int | float | None]]
) -> RunResult:
    """The result of a task that has ended; fields that were never measured are null. `results`
    are its first items.
    """
    measured: dict[str, Any] = dict(task.measurements or {})
    duration = duration_seconds(task, shards)
    processed, setup = task.items_processed, measured.get("setup_seconds")
    requested = task.spec["batch_size"]
    batch_size = measured.get("batch_size") or (None if requested == AUTO else requested)
    return RunResult(
        task_id=task.task_id,
        task_type=TaskType(task.task_type),
        status=task.status,
        items_processed=processed,
        total_items=task.total_items,
        start_time=task.start_time,
        end_time=task.end_time,
        duration_seconds=duration,
        results=[ResultRow.model_validate(row) for row in results],
        error_message=task.error_message,
        workload=task.workload,
        kernel=KernelName(task.kernel),
        strategy=StrategyName(task.strategy),
        requested_workers=task.spec["workers"],
        effective_workers=measured.get("effective_workers"),
        batch_size=batch_size,
        requested_batch_size=requested,
        flags=_flags(task, shards, measured.get("effective_workers")),
        setup_seconds=setup,
        throughput_items_per_second=processed / duration if duration else None,
        throughput_with_setup_items_per_second=(
            processed / (setup + duration) if duration and setup is not None else None
        ),
        io_seconds=measured.get("io_seconds"),
        cpu_seconds=measured.get("cpu_seconds"),
        cpu_utilization=measured.get("cpu_utilization"),
        peak_memory_bytes=measured.get("peak_memory_bytes"),
        failed_items=task.failed_items,
        error_rate=task.failed_items / processed if processed else 0.0,
        errors=measured.get("errors", []),
        stages=[_stage_view(stage) for stage in measured.get("stages", [])],
        event_loop_lag_ms=measured.get("event_loop_lag_ms"),
        checksum=measured.get("checksum"),
    )


def _flags(task: Task, shards: Sequence[Shard], effective_workers: int | None) -> list[RunFlag]:
    if effective_workers is None:
        return []
    counts = [shard.count for shard in shards]
    idle = leaves_workers_idle(task.strategy, task.spec, counts, effective_workers)
    return [RunFlag.IDLE_WORKERS] if idle else []


def _stage_view(measured: dict[str, Any]) -> StageView:
    asked = measured["hits"] + measured["misses"]
    return StageView(**measured, hit_rate=measured["hits"] / asked if asked else None)


def task_summary(task: Task, shards: Sequence[Shard], waits: Waits = NO_WAITS) -> TaskSummary:
    """`waits` are those of `waits_of`."""
    return TaskSummary(**_summary_fields(task, shards, waits))


def new_task_view(task: Task, counts: Sequence[int]) -> TaskView:
    """A task as it was accepted, in shards of so many items, before anybody executes it."""
    waiting = [Shard(task_id=task.task_id, shard=n, start=0, count=c) for n, c in enumerate(counts)]
    return TaskView(**_summary_fields(task, waiting), result=None)


def task_view(store: TaskStore, task_id: str) -> TaskView:
    """The task as it is now. Blocks; raises TaskNotFoundError, StoreError."""
    task, shards = store.with_shards(task_id)
    fields = _summary_fields(task, shards, waits_of(store, [task]))
    if task.kind == TaskKind.COMPARISON:
        record = ComparisonRecord.from_json(shards[0].details if shards else None)
        comparison = None if record is None else comparison_view(task, record, fields["links"])
        return TaskView(**fields, result=None, comparison=comparison)
    result = _result(store, task, shards) if task.status in FINISHED else None
    return TaskView(**fields, result=result)


def duration_seconds(task: Task, shards: Sequence[Shard]) -> float | None:
    """Of one shard what its executions took; of several, which ran side by side, the whole time."""
    if len(shards) == 1:
        details = shards[0].details or {}
        record = ComparisonRecord.from_json(details)
        if record is not None:
            return record.duration_seconds
        seconds: float | None = details.get("duration_seconds")
        return seconds
    if task.start_time is None:
        return None
    return ((task.end_time or utc_now()) - task.start_time).total_seconds()


def _node(shards: Sequence[Shard]) -> str | None:
    """The nodes that execute shards now."""
    nodes = {s.node for s in shards if s.status is TaskStatus.RUNNING and s.node is not None}
    return ", ".join(sorted(nodes)) or None


def waits_of(store: TaskStore, tasks: Iterable[Task]) -> Waits:
    """What nodes wait for, if any of the tasks is in the queue. Blocks; raises StoreError."""
    return waits_of_nodes(store.engine) if any(map(_is_queued, tasks)) else NO_WAITS


def _is_queued(task: Task) -> bool:
    return task.task_type == TaskType.BACKGROUND and task.status not in FINISHED


def _waiting_for(task: Task, shards: Sequence[Shard], waits: Waits) -> str | None:
    """What all nodes wait for that hold a shard of the task, or that may take one if none does."""
    if not _is_queued(task) or not shards:
        return None
    holders = {s.node for s in shards if s.status in UNFINISHED and s.node is not None}
    missing = {waits.get(node) for node in holders} or set(waits.values())
    if None in missing:
        return None
    # Of a process without a run host more is to be hoped than of one that executes nothing.
    return A_RUN_HOST if A_RUN_HOST in missing else next(iter(missing), None)


def _summary_fields(task: Task, shards: Sequence[Shard], waits: Waits = NO_WAITS) -> dict[str, Any]:
    processed = task.items_processed
    if task.status is TaskStatus.RUNNING:
        processed += sum(shard.items_in_work for shard in shards)
    duration = duration_seconds(task, shards)
    rate = processed / duration if duration else None
    remaining: float | None = None
    if task.status is TaskStatus.RUNNING and rate:
        remaining = (task.total_items - processed) / rate
    return {
        "task_id": task.task_id,
        "task_type": TaskType(task.task_type),
        "status": task.status,
        "kind": TaskKind(task.kind),
        "strategy": StrategyName(task.strategy) if task.strategy else None,
        "kernel": KernelName(task.kernel) if task.kernel else None,
        "workload": task.workload,
        **{name: task.spec[name] for name in ("workers", "batch_size", "db", "cache")},
        "items_processed": processed,
        "total_items": task.total_items,
        "progress": processed / task.total_items if task.total_items else 0.0,
        "throughput_items_per_second": rate,
        "estimated_remaining_seconds": remaining,
        "created_at": task.created_at,
        "start_time": task.start_time,
        "end_time": task.end_time,
        "error_message": task.error_message,
        "attempts": sum(shard.attempt for shard in shards),
        "node": _node(shards),
        "waiting_for": _waiting_for(task, shards, waits),
        "shards": Shards(
            total=len(shards),
            completed=sum(shard.status is TaskStatus.COMPLETED for shard in shards),
        ),
        "estimated_seconds": task.estimated_seconds,
        "links": TaskLinks(
            status=link_to(f"{BASE_PATH}/status/{task.task_id}"),
            results=link_to(f"{BASE_PATH}/results/{task.task_id}"),
            cancel=link_to(f"{BASE_PATH}/{task.task_id}"),
            resume=link_to(f"{BASE_PATH}/{task.task_id}/resume"),
            events=link_to(f"{BASE_PATH}/events/{task.task_id}"),
        ),
    }
