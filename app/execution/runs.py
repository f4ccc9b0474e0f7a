"""Synchronous runs: from a request to a result, whatever happens on the way."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hotloop.app.errors import (
    BodyTooSlowError,
    ClientStorageError,
    EstimateTooLongError,
    InvalidRequestError,
    PayloadTooLargeError,
    RunCancelledError,
    RunError,
    ServiceError,
    TaskNotFoundError,
    TooBusyError,
    internal_text,
)
from hotloop.app.execution.active_run import ActiveRun
from hotloop.app.execution.background import BackgroundService, hashed, upload_digest
from hotloop.app.execution.executions import (
    Outcome,
    RunContext,
    drop_files,
    end,
    execute,
    to_the_end,
    withdraw,
)
from hotloop.app.execution.inputs import GeneratedInput, InlineInput, TaskInput, UploadInput
from hotloop.app.execution.long_runs import LongRunService
from hotloop.app.execution.presenters import task_result
from hotloop.app.execution.specs import spec_of
from hotloop.app.logs.origin import bind_task
from hotloop.app.names import StrategyName, TaskType
from hotloop.app.prediction.batch_size import with_batch_size
from hotloop.app.prediction.plans import check_estimate, make_plan
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.sources.base import Items
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.chunks import result_bytes
from hotloop.app.tasks.model import Shard, ShardRef, Task, new_task_id, utc_now
from hotloop.app.tasks.threads import in_store_thread

logger = logging.getLogger(__name__)

T = TypeVar("T")

REFUSALS = (
    InvalidRequestError,
    PayloadTooLargeError,
    BodyTooSlowError,
    TooBusyError,
    ClientStorageError,
)
"""Errors after which a task is as if it had never been asked for."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """An upload with an idempotency key, and the digest of what came in with it."""

    key: str
    digest: hashlib._Hash


class RunService:
    """Executes synchronous runs. Cancelling a call cancels its run."""

    def __init__(
        self, context: RunContext, background: BackgroundService, long_runs: LongRunService
    ) -> None:
        self.active: dict[str, ActiveRun] = {}
        """By task id: the tasks that this process drives."""
        self._context = context
        self._background = background
        self._long_runs = long_runs

    async def run(
        self,
        strategy: StrategyName,
        request: RunRequest,
        key: str | None = None,
        client: str | None = None,
    ) -> RunResult | AcceptedRun:
        """The result; or the background task that the run became, because it is estimated beyond
        the limit, or because `key`, an idempotency key, has one already. Raises any of the service
        errors but those about tasks, and kernels.InvalidInputError.
        """
        if await self._long_runs.accepted_before(key, client):
            asked = BackgroundRequest.of(request, strategy)
            return AcceptedRun(**dict(await self._background.submit(asked, key, client)))
        items = GeneratedItems(request.total_items)
        known = await self._context.calibrations.known()
        plan = await self._plan(strategy, request, items, known)
        try:
            seconds = self._check(plan, known)
        except EstimateTooLongError as error:
            return await self._long_runs.accept(strategy, request, error, key, client)
        source: TaskInput
        if request.items is None:
            source = GeneratedInput(request.items_count)
        else:
            source = InlineInput(request.workload, request.items)
        # Before the store is asked: a flood of runs must not become one of tasks that are written
        # and removed again.
        with self._context.hosts.place(client) as place:
            needed = request.total_items * result_bytes(plan.workload)
            if isinstance(source, InlineInput):
                needed += source.size
            await asyncio.to_thread(self._context.storage.check, client, needed)
            return await self._supervise(plan, request, source, client, seconds, place)

    async def run_upload(
        self,
        query: UploadQuery,
        media_type: str,
        chunks: AsyncIterator[bytes],
        key: str | None = None,
        client: str | None = None,
    ) -> RunResult | AcceptedRun:
        """As `run`, over the rows of a `text/csv` or `application/x-ndjson` stream."""
        strategy = query.strategy
        if await self._long_runs.accepted_before(key, client):
            asked = query, strategy, media_type, chunks
            return AcceptedRun(**dict(await self._background.submit_upload(*asked, key, client)))
        keyed: Keyed | None = None
        if key is not None:
            keyed = Keyed(key, upload_digest(query, strategy, media_type))
            chunks = hashed(chunks, keyed.digest)
        known = await self._context.calibrations.known()
        plan = await self._plan(query.strategy, query, GeneratedItems(0), known)
        self._context.memory.check(plan)  # its workers; what the items need is not known yet
        storage, most = self._context.storage, self._context.settings.max_upload_rows
        await asyncio.to_thread(storage.check, client, 0)
        with storage.receiving(client, chunks) as bounded:
            source = UploadInput(query.workload, media_type, bounded, most)
            return await self._supervise(plan, query, source, client, None, keyed=keyed)

    async def _plan(
        self,
        strategy: StrategyName,
        request: RunRequest | UploadQuery,
        items: Items,
        calibration: Calibration,
    ) -> Plan:
        reports = await self._context.hosts.kernels()
        return make_plan(strategy, request, items, reports, calibration, self._context.settings)

    def _check(self, plan: Plan, calibration: Calibration) -> float:
        """The estimate. Raises MemoryBudgetError, EstimateTooLongError."""
        self._context.memory.check(plan)
        return check_estimate(plan, calibration, self._context.settings.sync_limit_seconds)

    async def _supervise(
        self,
        plan: Plan,
        request: RunRequest | UploadQuery,
        source: TaskInput,
        client: str | None,
        seconds: float | None,
        place: ExitStack | None = None,
        keyed: Keyed | None = None,
    ) -> RunResult | AcceptedRun:
        """`seconds` is the estimate, where the items are known."""
        return await self.supervise(
            new_task_id(),
            lambda active: self._drive(
                active, plan, request, source, client, seconds, place, keyed
            ),
        )

    async def supervise(
        self, task_id: str, drive: Callable[[ActiveRun], Coroutine[Any, Any, T]]
    ) -> T:
        """Drive a task in an asyncio task of its own: when the caller goes, it still ends in
        order, with its outcome in the store and its run host given back.
        """
        active = ActiveRun(task_id)
        self.active[active.task_id] = active
        driver = active.driver = asyncio.create_task(drive(active))
        driver.add_done_callback(lambda ended: self._forget(active, ended))
        try:
            return await asyncio.shield(driver)
        except asyncio.CancelledError:
            await active.cancel()
            raise

    def _forget(self, active: ActiveRun, driver: asyncio.Task[Any]) -> None:
        del self.active[active.task_id]
        error = None if driver.cancelled() else driver.exception()
        if error is not None and not isinstance(error, ServiceError):
            # The caller may be gone, and nobody else would hear of it.
            logger.error("task %s failed by a fault", active.task_id, exc_info=error)

    async def _drive(
        self,
        active: ActiveRun,
        plan: Plan,
        request: RunRequest | UploadQuery,
        source: TaskInput,
        owner: str | None,
        seconds: float | None,
        place: ExitStack | None,
        keyed: Keyed | None,
    ) -> RunResult | AcceptedRun:
        """The whole life of a task. Raises what ended it, after that was stored."""
        context, task_id = self._context, active.task_id
        bind_task(task_id)
        item_bytes = result_bytes(plan.workload)
        task = Task(
            task_id=task_id,
            task_type=TaskType.SYNCHRONOUS,
            spec=spec_of(request, source.kind, source.media_type).to_json(),
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=source.count,
            created_at=utc_now(),
            owner=self._context.node,
            client=owner,
            estimated_seconds=seconds,
            stored_bytes=source.count * item_bytes,
            item_bytes=item_bytes,
        )
        shard: Shard | None = None
        outcome = Outcome(None, Measurements(), 0, 0)
        try:
            await to_the_end(context.store.create, task)
            await source.receive(context.folder, task_id)
            async with context.hosts.lease(owner=owner, place=place) as client:
                items = await source.read(client, context.folder, task_id)
                plan = replace(plan, items=items)
                if seconds is None:
                    results = items.count * item_bytes
                    await asyncio.to_thread(context.storage.check, owner, results)
                    known = await context.calibrations.known()
                    plan = with_batch_size(plan, request, known)
                    seconds = self._check(plan, known)
                    await to_the_end(context.store.estimate, task_id, seconds)
                ref = ShardRef(task_id, 0, 0)
                shard = await to_the_end(context.store.shards.begin, ref, context.node, items.count)
                active.begins_on(client)
                outcome = await execute(context, client, plan, shard)
        except EstimateTooLongError as error:
            # The rows are in the item file, and nothing was computed.
            if keyed is not None:
                digest = keyed.digest.hexdigest()
                task = replace(task, idempotency_key=keyed.key, request_hash=digest)
            return await self._long_runs.take_over(task, plan, error)
        except REFUSALS:
            await in_store_thread(withdraw, context, task_id)
            raise
        except asyncio.CancelledError:
            outcome = replace(outcome, error=RunCancelledError())
        except ServiceError as error:
            outcome = replace(outcome, error=error)
        except Exception as error:
            outcome = replace(outcome, error=RunError(internal_text(error)))
            await in_store_thread(self._end, task_id, plan, shard, outcome)
            raise
        await in_store_thread(self._end, task_id, plan, shard, outcome)
        if outcome.error is not None:
            if isinstance(outcome.error, RunError):
                outcome.error.task_id = task_id
            raise outcome.error
        return await in_store_thread(task_result, context.store, task_id)

    def _end(self, task_id: str, plan: Plan, shard: Shard | None, outcome: Outcome) -> None:
        drop_files(self._context, task_id)  # it cannot be resumed
        if shard is not None:
            end(self._context, plan.strategy, plan.kernel, shard, outcome)
            return
        # Its execution never began.
        error = outcome.error
        with suppress(TaskNotFoundError):  # the store did not take it, and the error says why
            self._context.store.finish_unbegun(
                task_id, outcome.status, type(error).__name__, str(error)
            )
        self._context.metrics.run_ended(plan.strategy, plan.kernel, outcome.status, 0, 0)

    async def close(self) -> None:
        """Cancel what is in progress, and wait until every outcome is stored."""
        running = list(self.active.values())
        for active in running:
            await active.cancel()
        for active in running:
            await active.wait_ended()
