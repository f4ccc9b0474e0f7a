"""One execution of a shard on a run host, whoever asked for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from hotloop.app.errors import RunCancelledError, RunError, ServiceError, StoreError, internal_text
from hotloop.app.execution.client_storage import ClientStorage
from hotloop.app.execution.collecting import RunCollector
from hotloop.app.execution.measurements import summarize
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.observability.health import SourceMonitor
from hotloop.app.observability.lag import LoopLagMonitor
from hotloop.app.observability.metrics import Metrics
from hotloop.app.observability.tracing import RunSpan, run_span
from hotloop.app.prediction.calibrations import Calibrations
from hotloop.app.prediction.memory import MemoryBudget
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import Batches, Progress, RunStarted
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Shard
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What runs are made with, for the life of the process."""

    settings: Settings
    usable_cpus: int
    node: str
    """This process, as the store names it."""
    hosts: RunHostPool
    calibrations: Calibrations
    store: TaskStore
    folder: DataFolder
    lag: LoopLagMonitor
    sources: SourceMonitor
    metrics: Metrics
    memory: MemoryBudget
    storage: ClientStorage


class Recorded(Protocol):
    """What a shard has measured, in the form in which it is stored."""

    @property
    def duration_seconds(self) -> float | None:
        """Over all its executions; None before the first."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class AsStored:
    """What a shard has measured, as it is stored: an execution that never came to measure anything
    leaves it so.
    """

    stored: Mapping[str, Any] | None = None
    duration_seconds: None = None

    def to_json(self) -> dict[str, Any]:
        return dict(self.stored or {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended, and what the shard measured over all of them."""

    error: ServiceError | None
    details: Recorded
    items_processed: int
    failed_items: int

    @property
    def status(self) -> TaskStatus:
        if self.error is None:
            return TaskStatus.COMPLETED
        if isinstance(self.error, RunCancelledError):
            return TaskStatus.CANCELLED
        return TaskStatus.FAILED


def withdraw(context: RunContext, task_id: str) -> None:
    """Forget a task that never ran, as if it had never been asked for. Blocks.

    Raises StoreError, TaskNotFoundError, and TaskConflictError when it has begun.
    """
    context.store.withdraw(task_id)
    context.folder.remove(task_id)


def drop_files(context: RunContext, task_id: str) -> None:
    """Remove the files of a task that has ended for good. Blocks."""
    try:
        context.folder.remove(task_id)
    except StoreError as error:
        logger.warning("%s; upkeep removes it later", error)


async def to_the_end(call: Callable[..., T], *args: object) -> T:
    """Run the call in a thread and return what it made, even when cancelled meanwhile: the
    cancellation then comes with the next await, when somebody is there to clean up.
    """
    work = asyncio.ensure_future(in_store_thread(call, *args))
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.cancel()
    return work.result()


Add = Callable[[RunCollector, Batches], Awaitable[None]]


async def add_once(collector: RunCollector, event: Batches) -> None:
    """Store results; raises what the store raises."""
    await in_store_thread(collector.add, event)


async def _note(collector: RunCollector, event: Progress) -> None:
    """Store how far a run is. A store that cannot be reached is no reason to end the run."""
    if collector.note(event):
        with suppress(StoreError):
            await in_store_thread(collector.store_progress)


async def execute(
    context: RunContext, client: RunHostClient, plan: Plan, shard: Shard, add: Add = add_once
) -> Outcome:
    """Execute `plan` for a shard that has begun; results go to the store as they come, by `add`.

    What ends the execution is in the outcome, a fault of this program as a RunError.
    """
    with run_span(plan, shard) as (span, named):
        outcome = await _execute(context, client, named, shard, add, span)
        if outcome.error is not None:
            span.failed(outcome.error)
    return outcome


async def _execute(
    context: RunContext, client: RunHostClient, plan: Plan, shard: Shard, add: Add, span: RunSpan
) -> Outcome:
    names = {"strategy": plan.strategy, "kernel": plan.kernel, "items": plan.item_count}
    logger.info("run begins", extra={FIELDS: names | {"run_host": client.pid}})
    collector = RunCollector(plan, shard, context.store.shards, context.sources)
    error: ServiceError | None = None
    with context.lag.recording() as lag:
        try:
            async with aclosing(client.run(plan)) as events:
                async for event in events:
                    if isinstance(event, RunStarted):
                        collector.start(event)
                    elif isinstance(event, Batches):
                        span.batches(event)
                        await add(collector, event)
                    elif isinstance(event, Progress):
                        await _note(collector, event)
                    elif isinstance(event, BreakerReport):
                        context.sources.note(event)
                    else:
                        collector.measured, error = event.measured, event.error
        except ServiceError as raised:
            error = raised
        except Exception as fault:
            logger.exception("the execution of %s met a fault", shard.task_id)
            error = RunError(internal_text(fault))
    collector.lag = lag.summary()
    return Outcome(
        error, collector.measurements(), collector.items_processed, collector.failed_items
    )


def end(
    context: RunContext, strategy: StrategyName, kernel: str, shard: Shard, outcome: Outcome
) -> TaskStatus:
    """Store how the execution ended; returns the task's state. Blocks.

    Raises StoreError, and TaskConflictError when the execution is no longer the current one.
    """
    error = outcome.error
    status = context.store.shards.end(
        shard.ref,
        shard.attempt,
        outcome.status,
        outcome.details.to_json(),
        outcome.items_processed,
        summarize,
        error_code=type(error).__name__ if error else None,
        error_message=str(error) if error else None,
    )
    context.metrics.run_ended(
        strategy,
        kernel,
        outcome.status,
        outcome.items_processed - shard.items_processed,
        outcome.failed_items - shard.failed_items,
        outcome.details.duration_seconds,
    )
    log_end("run ended", shard, outcome)  # last: what is told to have ended is counted
    return status


def log_end(what: str, shard: Shard, outcome: Outcome) -> None:
    """The texts of errors are for the client: they may name items."""
    fields: dict[str, object] = {
        "status": outcome.status,
        "duration_seconds": outcome.details.duration_seconds,
        "items_processed": outcome.items_processed,
        "failed_items": outcome.failed_items,
        "shard": shard.shard,
        "attempt": shard.attempt,
    }
    if outcome.error is not None:
        fields["error"] = type(outcome.error).__name__
    logger.info("%s", what, extra={FIELDS: fields})
