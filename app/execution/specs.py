"""Stored specs, from which any node can execute a task; plans and shards for requests."""

from __future__ import annotations

import hashlib
import json
from typing import TypeVar

from pydantic import ValidationError

from hotloop import kernels
from hotloop.app.errors import NotReadyError, UnreadableTaskError
from hotloop.app.names import StrategyName
from hotloop.app.prediction.memory import MemoryBudget
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.prediction.plan import make_plan, preferred
from hotloop.app.records import JsonObject
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.options import AUTO, StrategyChoice
from hotloop.app.schemas.runs import RunRequest, UploadQuery, read_request
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.needs import stored_version
from hotloop.app.tasks.spec import InputKind, TaskSpec, input_spec
from hotloop.app.wording import describe


def spec_of(
    request: RunRequest | UploadQuery, kind: InputKind, media_type: str | None = None
) -> TaskSpec:
    """Return the spec of a requested task, with the defaults that depend on where the items come
    from. The items themselves are stored elsewhere.
    """
    return TaskSpec(
        workload=request.workload,
        kernel=request.kernel,
        parameters=dict(request.parameters),
        workers=request.workers,
        batch_size=request.batch_size,
        io_concurrency=request.io_concurrency,
        db=request.db_source,
        cache=request.cache_source,
        cache_mode=request.cache_mode.value,
        query_batch_size=request.query_batch_size,
        simulate_db_delay=request.simulate_db_delay,
        simulate_redis_delay=request.simulate_redis_delay,
        db_delay_ms=request.db_delay_ms,
        redis_delay_ms=request.redis_delay_ms,
        timeout_seconds=request.timeout_seconds,
        max_error_rate=request.max_error_rate,
        input=input_spec(kind, media_type),
        priority=getattr(request, "priority", 0),
        webhook=getattr(request, "webhook", None),
    )


def check_code(task: Task) -> None:
    """Raise NotReadyError if a user's code is declared here in another version than the one that
    the task was accepted with, or no more.
    """
    wanted = stored_version(task.spec)
    if wanted is None:
        return
    declared = {each.name: each.source for each in kernels.declared_workloads()}
    source = declared.get(task.workload)
    if source is None or source.short_version != wanted:
        found = "not served" if source is None else f"served in version {source.short_version}"
        text = f"the task needs version {wanted} of the workload {task.workload}, which is {found}"
        raise NotReadyError(f"{text}; serve that version again, or send the request again", 1)


R = TypeVar("R", bound=RunRequest)


def request_of(stored: JsonObject, model: type[R]) -> R:
    """Return the request in a stored spec, without its items. Raises UnreadableTaskError."""
    kept = dict(stored) | TaskSpec.from_json(stored).to_json()
    asked = {name: value for name, value in kept.items() if name in model.model_fields}
    try:
        return read_request(model, json.dumps(asked), ignore_unknown=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "request"
        raise UnreadableTaskError(f"its {field} {describe(first)}") from error


def request_hash(request: RunRequest) -> str:
    """Return a hash that is equal for equal requests."""
    # Hash the items apart: making JSON of 100,000 rows would hold the GIL for long.
    rows = "" if request.items is None else ItemColumns.of(request.workload, request.items).digest
    # Fields that earlier versions did not have count only if they are given.
    new = {name for name in ("priority", "webhook") if not getattr(request, name, None)}
    text = request.model_dump_json(exclude={"items", *new})
    return hashlib.sha256(f"{text} {rows}".encode()).hexdigest()


def plan_for(
    choice: StrategyChoice,
    request: RunRequest | UploadQuery,
    items: Items,
    reports: tuple[KernelReport, ...],
    calibration: Calibration,
    settings: Settings,
    memory: MemoryBudget,
) -> tuple[Plan, float]:
    """Return the plan and its estimate in seconds. `auto` takes the strategy with the lowest
    estimate among those that fit in memory. Raises the errors of make_plan, and MemoryBudgetError.
    """
    names = preferred(settings, calibration) if choice == AUTO else (StrategyName(choice),)
    plans = [make_plan(name, request, items, reports, calibration, settings) for name in names]
    fitting = [plan for plan in plans if memory.fits(plan)]
    if not fitting:
        memory.check(min(plans, key=memory.needed))
    plans = fitting
    seconds = [estimate_seconds(plan, calibration) for plan in plans]
    best = min(range(len(plans)), key=seconds.__getitem__)
    return plans[best], seconds[best]


def shard_counts(total_items: int, batch_size: int, shard_items: int | None) -> list[int]:
    """Return the items of each shard: whole batches, about `shard_items`; None makes one shard."""
    if shard_items is None or total_items <= shard_items:
        return [total_items]
    batches = max(1, shard_items // batch_size)
    size = batches * batch_size
    return [min(size, total_items - start) for start in range(0, total_items, size)]
