"""Synchronous runs: from a request to a result, whatever happens on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from app.errors import (
    InvalidRequestError,
    PayloadTooLargeError,
    RunCancelledError,
    RunError,
    ServiceError,
    TooBusyError,
    internal_text,
)
from app.names import StrategyName, TaskStatus, TaskType
from app.runhost.client import RunHostClient
from app.runhost.host_pool import RunHostPool
from app.runhost.messages import Batches, RunStarted
from app.schemas.results import RunResult
from app.schemas.runs import RunRequest, UploadQuery
from app.services.active_run import ActiveRun
from app.services.collecting import RunCollector, RunOutcome
from app.services.inputs import GeneratedInput, InlineInput, TaskInput, UploadInput
from app.services.loop_lag import LoopLagMonitor
from app.services.metrics import Metrics
from app.services.plans import check_estimate, make_plan
from app.services.sources import SourceMonitor
from app.services.views import run_result
from app.settings import Settings
from app.sources.breaker_reports import BreakerReport
from app.sources.simulated import GeneratedItems
from app.strategies.base import Plan
from app.tasks.folder import DataFolder
from app.tasks.model import Task, new_task_id, utc_now
from app.tasks.owner import current_owner
from app.tasks.store import TaskStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

REFUSALS = (InvalidRequestError, PayloadTooLargeError, TooBusyError)
"""Errors after which a task is as if it had never been asked for."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What runs are made with, for the life of the service."""

    settings: Settings
    usable_cpus: int
    hosts: RunHostPool
    store: TaskStore
    folder: DataFolder
    lag: LoopLagMonitor
    sources: SourceMonitor
    metrics: Metrics


class RunService:
    """Executes synchronous runs. Cancelling a call cancels its run."""

    def __init__(self, context: RunContext) -> None:
        self.active: dict[str, ActiveRun] = {}
        """By task id: the tasks that this process drives."""
        self._context = context
        self._owner = current_owner()

    async def run(self, strategy: StrategyName, request: RunRequest) -> RunResult:
        """Raises any of the service errors but those about tasks, and kernels.InvalidInputError."""
        items = GeneratedItems(request.total_items)
        reports = await self._context.hosts.kernels()
        plan = make_plan(strategy, request, items, reports, self._context.settings)
        await self._check_estimate(plan)
        source: TaskInput
        if request.items is None:
            source = GeneratedInput(request.items_count)
        else:
            source = InlineInput(request.workload, request.items)
        return await self._supervise(plan, _spec(request), source)

    async def run_upload(
        self, query: UploadQuery, media_type: str, chunks: AsyncIterator[bytes]
    ) -> RunResult:
        """As `run`, over the rows of a `text/csv` or `application/x-ndjson` stream."""
        reports = await self._context.hosts.kernels()
        settings = self._context.settings
        plan = make_plan(query.strategy, query, GeneratedItems(0), reports, settings)
        source = UploadInput(query.workload, media_type, chunks, settings.max_upload_rows)
        return await self._supervise(plan, _spec(query), source)

    async def _check_estimate(self, plan: Plan) -> None:
        check_estimate(
            plan,
            await self._context.hosts.kernels(),
            self._context.usable_cpus,
            self._context.settings.sync_limit_seconds,
        )

    async def _supervise(self, plan: Plan, spec: dict[str, Any], source: TaskInput) -> RunResult:
        """Drive the task in an asyncio task of its own: when the caller goes, it still ends in
        order, with its outcome in the store and its run host given back.
        """
        active = ActiveRun(new_task_id(), plan)
        self.active[active.task_id] = active
        active.driver = asyncio.create_task(self._drive(active, plan, spec, source))
        active.driver.add_done_callback(lambda driver: self._forget(active, driver))
        try:
            return await asyncio.shield(active.driver)
        except asyncio.CancelledError:
            await active.cancel()
            raise

    def _forget(self, active: ActiveRun, driver: asyncio.Task[RunResult]) -> None:
        del self.active[active.task_id]
        error = None if driver.cancelled() else driver.exception()
        if error is not None and not isinstance(error, ServiceError):
            # The caller may be gone, and nobody else would hear of it.
            logger.error("task %s failed by a fault", active.task_id, exc_info=error)

    async def _drive(
        self, active: ActiveRun, plan: Plan, spec: dict[str, Any], source: TaskInput
    ) -> RunResult:
        """The whole life of a task. Raises what ended it, after that was stored."""
        context, task_id = self._context, active.task_id
        task = Task(
            task_id=task_id,
            task_type=TaskType.SYNCHRONOUS,
            spec=spec,
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=source.count,
            created_at=utc_now(),
            owner=self._owner,
        )
        outcome = RunOutcome(None, None)
        try:
            await _to_the_end(context.store.create, task)
            await source.receive(context.folder, task_id)
            async with context.hosts.lease() as client:
                items = await source.read(client, context.folder, task_id)
                plan = replace(plan, items=items)
                await self._check_estimate(plan)
                outcome = await self._run_on(client, active, plan)
        except REFUSALS:
            await asyncio.to_thread(self._withdraw, task_id)
            raise
        except asyncio.CancelledError:
            outcome = replace(outcome, error=RunCancelledError())
        except ServiceError as error:
            outcome = replace(outcome, error=error)
        except Exception as error:
            outcome = replace(outcome, error=RunError(internal_text(error)))
            await asyncio.to_thread(self._finish, active, outcome)
            raise
        await asyncio.to_thread(self._finish, active, outcome)
        if outcome.error is not None:
            if isinstance(outcome.error, RunError):
                outcome.error.task_id = task_id
            raise outcome.error
        return run_result(await asyncio.to_thread(context.store.get, task_id))

    async def _run_on(self, client: RunHostClient, active: ActiveRun, plan: Plan) -> RunOutcome:
        context, task_id = self._context, active.task_id
        collector = RunCollector(active, context.store, context.sources)
        error: ServiceError | None = None
        try:
            with context.lag.recording() as lag:
                active.begins_on(client)
                async with aclosing(client.run(plan)) as events:
                    async for event in events:
                        if isinstance(event, RunStarted):
                            collector.start(event)
                            active.attempt = await asyncio.to_thread(
                                context.store.mark_running,
                                task_id,
                                self._owner,
                                plan.items.count,
                            )
                        elif isinstance(event, Batches):
                            await asyncio.to_thread(collector.add, event)
                        elif isinstance(event, BreakerReport):
                            context.sources.note(event)
                        else:
                            collector.report, error = event, event.error
        except ServiceError as raised:
            error = raised
        measurements = await asyncio.to_thread(collector.measurements, lag.summary())
        return RunOutcome(error, measurements)

    def _finish(self, active: ActiveRun, outcome: RunOutcome) -> None:
        if outcome.measurements is None:  # it never ran
            self._context.folder.remove(active.task_id)
        error = outcome.error
        if error is None:
            status = TaskStatus.COMPLETED
        elif isinstance(error, RunCancelledError):
            status = TaskStatus.CANCELLED
        else:
            status = TaskStatus.FAILED
        self._context.store.finish(
            active.task_id,
            active.attempt,
            status,
            items_processed=active.items_processed,
            failed_items=active.failed_items,
            measurements=outcome.measurements,
            error_code=type(error).__name__ if error else None,
            error_message=str(error) if error else None,
        )
        self._context.metrics.run_ended(
            active.plan, status, active.items_processed, active.failed_items
        )

    def _withdraw(self, task_id: str) -> None:
        self._context.folder.remove(task_id)
        self._context.store.withdraw(task_id)

    async def close(self) -> None:
        """Cancel what is in progress, and wait until every outcome is stored."""
        running = list(self.active.values())
        for active in running:
            await active.cancel()
        for active in running:
            await active.wait_ended()


async def _to_the_end(call: Callable[..., T], *args: object) -> T:
    """Run the call in a thread and return what it made, even when cancelled meanwhile: the
    cancellation then comes with the next await, when somebody is there to clean up.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *args))
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


def _spec(request: RunRequest | UploadQuery) -> dict[str, Any]:
    """What was asked, as JSON; items of the body are in the item file."""
    return request.model_dump(mode="json", exclude={"items"})
