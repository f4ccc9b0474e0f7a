"""Views, results and progress of tasks, as clients see them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from hotloop.app.check.certificate import FAILED_MARK
from hotloop.app.check.storage import Certificates
from hotloop.app.errors import UnreadableTaskError
from hotloop.app.execution.context import Bodies, body_of
from hotloop.app.names import StrategyName, TaskKind, TaskStatus, TaskType
from hotloop.app.prediction.plan import leaves_workers_idle
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.schemas.options import AUTO
from hotloop.app.schemas.results import (
    Caution,
    ItemFailure,
    LoopLag,
    ResultRow,
    RunFlag,
    RunResult,
    StageView,
)
from hotloop.app.schemas.tasks import Shards, TaskProgress, TaskSummary, TaskView, WebhookView
from hotloop.app.tasks.model import FINISHED, Shard, Task, run_seconds
from hotloop.app.tasks.needs import (
    A_RUN_HOST,
    NOTHING,
    Abilities,
    Needs,
    read_needs,
    stored_version,
    waiting_for,
)
from hotloop.app.tasks.nodes import living_abilities
from hotloop.app.tasks.rows import task_needs
from hotloop.app.tasks.store import TaskPage, TaskStore
from hotloop.app.tasks.webhooks import WebhookStore

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=TaskProgress)

Living = Mapping[str, Abilities | None]
"""Abilities of each living node, by its id; None for a node without a run host."""

NOBODY: Final[Living] = MappingProxyType({})

KEPT_RESULTS: Final = 5

_SAYING_LEAST: Final[dict[str, Any]] = {
    "task_type": TaskType.BACKGROUND,
    "kind": TaskKind.RUN,
    "workers": 1,
    "batch_size": AUTO,
    "db": "none",
    "cache": "none",
    "progress": 0.0,
    **dict.fromkeys(("items_processed", "total_items"), 0),
    **dict.fromkeys(("throughput_items_per_second", "estimated_remaining_seconds")),
    "estimated_seconds": None,
}


_NOT_AS_MEASURED: Final = {"duration_seconds", "batch_size"} | {
    *("errors", "stages", "event_loop_lag_ms")
}
_AS_MEASURED: Final = {field.name for field in fields(Measurements)} - _NOT_AS_MEASURED
"""Names of the measurements that a result shows as stored."""


def task_result(store: TaskStore, certificates: Certificates, task_id: str) -> RunResult:
    """Return the result of an ended task. Blocks; raises TaskNotFoundError, StoreError."""
    return stored_result(store, certificates, *store.with_shards(task_id))


def stored_result(
    store: TaskStore, certificates: Certificates | None, task: Task, shards: Sequence[Shard]
) -> RunResult:
    """Return the result of an ended task, with its first items. Blocks; raises StoreError."""
    reader = store.results(task.task_id)
    head = [] if reader is None else reader.head(KEPT_RESULTS)
    version = stored_version(task.spec)
    mark = None
    if certificates is not None:
        mark = certificates.mark(task.workload, version, task.kernel)
    return run_result(task, shards, head, mark)


def run_result(
    task: Task,
    shards: Sequence[Shard],
    results: list[dict[str, bool | int | float | None]],
    certificate: str | None = None,
) -> RunResult:
    """Return the result of an ended task, whose first items are `results`; `certificate` is what
    `Certificates.mark` returns. Fields that were never measured are null.
    """
    measured: dict[str, Any] = dict(task.measurements or {})
    duration, lag = run_seconds(task, shards), measured.get("event_loop_lag_ms")
    processed, setup = task.items_processed, measured.get("setup_seconds")
    requested = task.spec["batch_size"]
    batch_size = measured.get("batch_size") or (None if requested == AUTO else requested)
    cautions = _cautions(task, shards, measured.get("effective_workers"), certificate)
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
        workload_version=stored_version(task.spec),
        kernel=task.kernel,
        certificate=certificate,
        strategy=StrategyName(task.strategy),
        requested_workers=task.spec["workers"],
        batch_size=batch_size,
        requested_batch_size=requested,
        flags=list(cautions),
        cautions=[Caution(name=flag, text=text) for flag, text in cautions.items()],
        throughput_items_per_second=processed / duration if duration else None,
        throughput_with_setup_items_per_second=(
            processed / (setup + duration) if duration and setup is not None else None
        ),
        failed_items=task.failed_items,
        error_rate=task.failed_items / processed if processed else 0.0,
        errors=[
            ItemFailure.model_validate(error, extra="ignore")
            for error in measured.get("errors", [])
        ],
        stages=[_stage_view(stage) for stage in measured.get("stages", [])],
        event_loop_lag_ms=None if lag is None else LoopLag.model_validate(lag, extra="ignore"),
        **{name: measured.get(name) for name in _AS_MEASURED},
    )


def _cautions(
    task: Task, shards: Sequence[Shard], effective_workers: int | None, certificate: str | None
) -> dict[RunFlag, str]:
    """Return the flags of a result, each with a sentence."""
    found = {}
    if effective_workers is not None:
        counts = [shard.count for shard in shards]
        if leaves_workers_idle(task.strategy, task.spec, counts, effective_workers):
            found[RunFlag.IDLE_WORKERS] = _idle_workers(task, task.spec["batch_size"])
    if certificate == FAILED_MARK:
        found[RunFlag.FAILED_CHECK] = (
            f"the kernel {task.kernel} has failed its check; `hotloop check` shows what was found"
        )
    return found


def _idle_workers(task: Task, batch_size: int) -> str:
    """Say why some workers had no items, and which batch size would give items to all."""
    items, workers = task.total_items, task.spec["workers"]
    batches = -(-items // batch_size)
    made = f"{batches:,} {'batch' if batches == 1 else 'batches'}"
    advice = (
        f"leave it out, or take at most {items // workers:,}"
        if items >= workers
        else f"{items:,} items keep at most {items:,} workers busy"
    )
    return f"batch size {batch_size:,} makes {made} for {workers:,} workers; {advice}"


def _stage_view(measured: dict[str, Any]) -> StageView:
    asked = measured["hits"] + measured["misses"]
    hit_rate = measured["hits"] / asked if asked else None
    return StageView.model_validate(measured | {"hit_rate": hit_rate}, extra="ignore")


def living_nodes(store: TaskStore, shown: Iterable[Task]) -> Living:
    """Return the abilities of the living nodes, from which `waiting_for` is told; empty if none of
    these tasks is queued. Blocks; raises StoreError.
    """
    return living_abilities(store.engine) if any(map(_is_queued, shown)) else NOBODY


def _is_queued(task: Task) -> bool:
    return task.task_type == TaskType.BACKGROUND and task.status not in FINISHED


def task_summaries(store: TaskStore, bodies: Bodies, page: TaskPage) -> list[TaskSummary]:
    """Return the summaries of a page's tasks. Blocks; raises StoreError."""
    living = living_nodes(store, page.tasks)
    return [task_summary(task, page.shards[task.task_id], bodies, living) for task in page.tasks]


def task_summary(
    task: Task, shards: Sequence[Shard], bodies: Bodies, living: Living = NOBODY
) -> TaskSummary:
    """Return the task without its result; `living` has the living nodes' abilities."""
    taken = _seconds(task, shards, bodies)
    return _shown(TaskSummary, _summary_fields(task, shards, taken, living))


def _shown(model: type[M], fields: dict[str, Any]) -> M:
    """Return a task as `model`. A field that this version cannot show, because another version
    stored it, gets its default from _SAYING_LEAST, so that one such task does not break a list.
    """
    try:
        return model(**fields)
    except ValidationError as error:
        wrong = {str(found["loc"][0]) for found in error.errors()}
        least = {name: value for name, value in _SAYING_LEAST.items() if name in wrong}
        return model(**fields | least)


def new_task_view(task: Task, counts: Sequence[int]) -> TaskView:
    """Return the view of a task just accepted, whose shards have `counts` items each."""
    waiting = [Shard(task_id=task.task_id, shard=n, start=0, count=c) for n, c in enumerate(counts)]
    hook = None
    if task.webhook is not None:
        hook = WebhookView(attempts=0, delivered_at=None, error=None)
    fields = _summary_fields(task, waiting, None, NOBODY)
    return TaskView(**fields, result=None, priority=-task.rank, webhook=hook)


def task_view(store: TaskStore, bodies: Bodies, task_id: str) -> TaskView:
    """Return the task as it is now. Blocks; raises TaskNotFoundError, StoreError."""
    task, shards = store.with_shards(task_id)
    living = living_nodes(store, [task])
    fields = _summary_fields(task, shards, _seconds(task, shards, bodies), living)
    own: dict[str, Any] = {"priority": -task.rank}
    if task.webhook is not None and (state := WebhookStore(store.engine).state(task_id)):
        own["webhook"] = asdict(state)
    try:
        own |= body_of(bodies, task.kind).view(store, task, shards)
    except (UnreadableTaskError, ValueError, KeyError, TypeError):
        # Another version stored it, or the row is damaged: the rest of the task can be shown.
        logger.warning("the measurements of task %s cannot be read", task_id, exc_info=True)
    return _shown(TaskView, {"result": None, "comparison": None, **fields, **own})


def _seconds(task: Task, shards: Sequence[Shard], bodies: Bodies) -> float | None:
    """Return the seconds that a task took; None if it did not begin or cannot be read."""
    try:
        return body_of(bodies, task.kind).duration_seconds(task, shards)
    except (UnreadableTaskError, TypeError):
        return None


def _node(shards: Sequence[Shard]) -> str | None:
    """Return the names of the nodes that execute shards now."""
    nodes = {s.node for s in shards if s.status is TaskStatus.RUNNING and s.node is not None}
    return ", ".join(sorted(nodes)) or None


def task_progress(
    task: Task, shards: Sequence[Shard], bodies: Bodies, living: Living = NOBODY
) -> TaskProgress:
    """Return the task's progress; `living` has the living nodes' abilities."""
    taken = _seconds(task, shards, bodies)
    return _shown(TaskProgress, _progress_fields(task, shards, taken, living))


def _waiting_for(task: Task, shards: Sequence[Shard], living: Living) -> str | None:
    """Say what a queued task waits for: a run host of the nodes that hold its shards, or a node
    that can execute one of its unclaimed shards.
    """
    if not _is_queued(task):
        return None
    waiting = [shard for shard in shards if shard.status not in FINISHED]
    holders = {shard.node for shard in waiting if shard.node is not None}
    if holders and all(living.get(node, NOTHING) is None for node in holders):
        return A_RUN_HOST
    of_task = task_needs(task)
    for shard in waiting:
        if shard.node is not None or of_task is None:
            continue
        abilities = of_task.abilities if shard.needs is None else read_needs(shard.needs)
        needs = Needs(abilities, shard.needs_bytes or of_task.memory_bytes)
        if (text := waiting_for(needs, living.values())) is not None:
            return text
    return None


def _progress_fields(
    task: Task, shards: Sequence[Shard], duration: float | None, living: Living
) -> dict[str, Any]:
    processed = task.items_processed
    if task.status is TaskStatus.RUNNING:
        processed += sum(shard.items_in_work for shard in shards)
    rate = processed / duration if duration else None
    remaining: float | None = None
    if task.status is TaskStatus.RUNNING and rate:
        remaining = (task.total_items - processed) / rate
    return {
        "task_id": task.task_id,
        "status": task.status,
        "items_processed": processed,
        "total_items": task.total_items,
        "progress": min(1.0, processed / task.total_items) if task.total_items else 0.0,
        "throughput_items_per_second": rate,
        "estimated_remaining_seconds": remaining,
        "start_time": task.start_time,
        "end_time": task.end_time,
        "error_message": task.error_message,
        "attempts": sum(shard.attempt for shard in shards),
        "node": _node(shards),
        "shards": Shards(
            total=len(shards),
            completed=sum(shard.status is TaskStatus.COMPLETED for shard in shards),
        ),
        "waiting_for": _waiting_for(task, shards, living),
    }


def _summary_fields(
    task: Task, shards: Sequence[Shard], duration: float | None, living: Living
) -> dict[str, Any]:
    return _progress_fields(task, shards, duration, living) | {
        "task_type": task.task_type,
        "kind": task.kind,
        "strategy": task.strategy if task.strategy in set(StrategyName) else None,
        "kernel": task.kernel or None,
        "workload": task.workload,
        "workload_version": stored_version(task.spec),
        **{name: task.spec.get(name) for name in ("workers", "batch_size", "db", "cache")},
        "created_at": task.created_at,
        "estimated_seconds": task.estimated_seconds,
    }
