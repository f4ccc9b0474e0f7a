"""Synchronous runs: from a request to a result, whatever happens on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from hotloop.app.errors import EstimateTooLongError
from hotloop.app.execution.background import BackgroundService, hashed, upload_digest
from hotloop.app.execution.context import RunContext, to_the_end
from hotloop.app.execution.items import InlineInput, TaskInput, UploadInput
from hotloop.app.execution.long_runs import LongRunService
from hotloop.app.execution.presenters import task_result
from hotloop.app.execution.runner import ActiveRun, Once, TaskRunner
from hotloop.app.execution.specs import spec_of
from hotloop.app.names import StrategyName, TaskType
from hotloop.app.prediction.batch_size import with_batch_size
from hotloop.app.prediction.plans import check_estimate, make_plan
from hotloop.app.runhost.calibration import Calibration
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.sources.base import Items
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.chunks import result_bytes
from hotloop.app.tasks.claims import Claim
from hotloop.app.tasks.model import Shard, Task, new_task_id, utc_now
from hotloop.app.tasks.spec import InputKind, TaskSpec
from hotloop.app.tasks.threads import in_store_thread


@dataclass(slots=True)
class _Run:
    """A synchronous run on its way to its result."""

    context: RunContext
    request: RunRequest | UploadQuery
    plan: Plan
    spec: TaskSpec
    client: str | None
    total_items: int = 0
    """0 for an upload that was not read yet."""
    seconds: float | None = None
    """The estimate; None while the items are not known."""
    source: TaskInput | None = None
    place: ExitStack | None = None
    key: str | None = None
    digest: hashlib._Hash | None = None
    """Digest of an upload that came with a `key`."""

    def task(self) -> Task:
        plan, item_bytes = self.plan, result_bytes(self.plan.workload)
        return Task(
            task_id=new_task_id(),
            task_type=TaskType.SYNCHRONOUS,
            spec=self.spec.to_json(),
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=self.total_items,
            created_at=utc_now(),
            owner=self.context.node,
            client=self.client,
            estimated_seconds=self.seconds,
            stored_bytes=self.total_items * item_bytes,
            item_bytes=item_bytes,
        )

    def policy(self, task_id: str) -> Once:
        async def planned(items: Items) -> Plan:
            self.plan = replace(self.plan, items=items)
            if self.seconds is None:
                await self._fit(task_id, items.count)
            return self.plan

        return Once(self.source, planned, self.place)

    async def _fit(self, task_id: str, count: int) -> None:
        """Check an upload now that its items are known, and choose its batch size. Raises
        ClientStorageError, MemoryBudgetError, EstimateTooLongError, StoreError.
        """
        context, results = self.context, count * result_bytes(self.plan.workload)
        await asyncio.to_thread(context.storage.check, self.client, results)
        known = await context.calibrations.known()
        self.plan = with_batch_size(self.plan, self.request, known)
        self.seconds = check(context, self.plan, known)
        await to_the_end(context.store.estimate, task_id, self.seconds)


def check(context: RunContext, plan: Plan, calibration: Calibration) -> float:
    """The estimate of a run. Raises MemoryBudgetError, EstimateTooLongError."""
    context.memory.check(plan)
    return check_estimate(plan, calibration, context.settings.sync_limit_seconds)


class RunService:
    """Executes synchronous runs. Cancelling a call cancels its run."""

    def __init__(
        self,
        context: RunContext,
        runner: TaskRunner,
        background: BackgroundService,
        long_runs: LongRunService,
    ) -> None:
        self._context = context
        self._runner = runner
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
            seconds = check(self._context, plan, known)
        except EstimateTooLongError as error:
            return await self._long_runs.accept(strategy, request, error, key, client)
        source, kind = None, InputKind.GENERATED
        if request.items is not None:
            source, kind = InlineInput(request.workload, request.items), InputKind.ITEMS
        # Before the store is asked: a flood of runs must not become one of tasks that are written
        # and removed again.
        with self._context.hosts.place(client) as place:
            needed = request.total_items * result_bytes(plan.workload)
            needed += 0 if source is None else source.size
            await asyncio.to_thread(self._context.storage.check, client, needed)
            total, spec = request.total_items, spec_of(request, kind)
            run = _Run(self._context, request, plan, spec, client, total, seconds, source, place)
            return await self._executed(run)

    async def run_upload(
        self,
        query: UploadQuery,
        media_type: str,
        chunks: AsyncIterator[bytes],
        key: str | None = None,
        client: str | None = None,
    ) -> RunResult | AcceptedRun:
        """As `run`, over the rows of a `text/csv` or `application/x-ndjson` stream."""
        strategy = StrategyChoice(query.strategy)
        if await self._long_runs.accepted_before(key, client):
            asked = query, strategy, media_type, chunks
            return AcceptedRun(**dict(await self._background.submit_upload(*asked, key, client)))
        digest = None
        if key is not None:
            digest = upload_digest(query, strategy, media_type)
            chunks = hashed(chunks, digest)
        known = await self._context.calibrations.known()
        plan = await self._plan(query.strategy, query, GeneratedItems(0), known)
        self._context.memory.check(plan)  # its workers; what the items need is not known yet
        storage, spec = self._context.storage, spec_of(query, InputKind.UPLOAD, media_type)
        await asyncio.to_thread(storage.check, client, 0)
        with storage.receiving(client, chunks) as bounded:
            run = _Run(self._context, query, plan, spec, client, key=key, digest=digest)
            run.source = UploadInput(bounded)
            return await self._executed(run)

    async def _plan(
        self,
        strategy: StrategyName,
        request: RunRequest | UploadQuery,
        items: Items,
        calibration: Calibration,
    ) -> Plan:
        reports = await self._context.hosts.kernels()
        return make_plan(strategy, request, items, reports, calibration, self._context.settings)

    async def _executed(self, run: _Run) -> RunResult | AcceptedRun:
        """Execute a run. Raises what ended it, once that is stored."""
        task = run.task()
        shard = Shard(task_id=task.task_id, shard=0, start=0, count=task.total_items)

        async def drive(active: ActiveRun) -> RunResult | AcceptedRun:
            outcome = await self._runner.run(Claim(task, shard), active)
            assert outcome is not None
            if isinstance(outcome.error, EstimateTooLongError):
                # Its rows are in the item file, and nothing was computed.
                long = task
                if run.digest is not None:
                    digest = run.digest.hexdigest()
                    long = replace(task, idempotency_key=run.key, request_hash=digest)
                return await self._long_runs.take_over(long, run.plan, outcome.error)
            if outcome.error is not None:
                raise outcome.error
            return await in_store_thread(task_result, self._context.store, task.task_id)

        return await self._runner.supervise(shard.ref, run.policy(task.task_id), drive)
