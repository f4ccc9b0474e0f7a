"""Synchronous runs, from a request to a result. A run whose estimate is over the limit is accepted
as a background task, or refused.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import ClientLimitError, EstimateTooLongError
from hotloop.app.execution.acceptance import hashed
from hotloop.app.execution.background import BackgroundService, upload_digest
from hotloop.app.execution.context import (
    Once,
    Outcome,
    RunContext,
    TaskInput,
    to_the_end,
    withdraw,
)
from hotloop.app.execution.items import InlineInput, UploadInput
from hotloop.app.execution.presenters import task_result
from hotloop.app.execution.runner import TaskRunner
from hotloop.app.execution.specs import plan_for, spec_of
from hotloop.app.logs.origin import current, origin_to_json
from hotloop.app.names import LongRuns, StrategyName, TaskType
from hotloop.app.prediction.plan import check_estimate, make_plan, with_batch_size
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.schemas.options import AUTO
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun, TaskView
from hotloop.app.sources.base import Items
from hotloop.app.sources.inline import MOST_BYTES
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.chunks import result_bytes
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.needs import version_needs
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.spec import InputKind, TaskSpec, input_spec

_NODE_ROLE: Final = "node"

_NOT_EXECUTED: Final = (
    "It is not accepted in the background either, because no process executes background tasks "
    "here: have the operator raise HOTLOOP_BACKGROUND_RUNS or start a node (`hotloop node`). Or "
    "ask for fewer items, a compiled kernel or more workers, or use hybrid, which waits for "
    "io_concurrency items at once."
)

_IN_THE_FOREGROUND: Final = (
    "To have the answer in the foreground, ask for fewer items, a compiled kernel or more workers, "
    "use hybrid, which waits for io_concurrency items at once, or have the operator raise "
    "HOTLOOP_SYNC_LIMIT_SECONDS."
)


@dataclass(slots=True)
class _Run:
    """A synchronous run on its way to its result."""

    context: RunContext
    request: RunRequest | UploadQuery
    plan: Plan
    spec: TaskSpec
    client: str | None
    total_items: int = 0
    """Number of items; 0 for an upload that was not read yet."""
    seconds: float | None = None
    """Estimated duration; None while the items are not known."""
    source: TaskInput | None = None
    place: ExitStack | None = None
    items: Items | None = None
    """Items that are in no file."""
    key: str | None = None
    digest: hashlib._Hash | None = None
    """Digest of an upload that came with a `key`."""

    def task(self) -> Task:
        plan, item_bytes = self.plan, result_bytes(self.plan.workload)
        return Task(
            task_id=new_task_id(),
            task_type=TaskType.SYNCHRONOUS,
            spec=replace(self.spec, needs=version_needs(plan.source)).to_json(),
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

        return Once(self.source, planned, self.place, self.items)

    async def _fit(self, task_id: str, count: int) -> None:
        """Check an upload once its items are known, and choose its batch size. Raises
        ClientStorageError, MemoryBudgetError, EstimateTooLongError, StoreError.
        """
        context, results = self.context, count * result_bytes(self.plan.workload)
        await asyncio.to_thread(context.storage.check, self.client, results)
        known = await context.calibrations.known(self.plan.workload, self.plan.parameters)
        self.plan = with_batch_size(self.plan, self.request, known)
        self.seconds = check(context, self.plan, known)
        await to_the_end(context.store.estimate, task_id, self.seconds)


def check(context: RunContext, plan: Plan, calibration: Calibration) -> float:
    """Return a run's estimate in seconds. Raises MemoryBudgetError, EstimateTooLongError."""
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

    @property
    def offered_strategies(self) -> tuple[StrategyName, ...]:
        """The strategies of this service."""
        return self._context.settings.offered_strategies

    async def run(
        self,
        strategy: StrategyName,
        request: RunRequest,
        key: str | None = None,
        client: str | None = None,
    ) -> RunResult | AcceptedRun:
        """Return the result; or the background task that the run became, because its estimate is
        over the limit or its idempotency key `key` has one. Raises any service error except those
        about tasks, and kernels.InvalidInputError.
        """
        if await self._long_runs.accepted_before(key, client):
            asked = BackgroundRequest.of(request, strategy)
            return AcceptedRun(**dict(await self._background.submit(asked, key, client)))
        items = GeneratedItems(request.total_items)
        plan, known = await self._plan(strategy, request, items)
        try:
            seconds = check(self._context, plan, known)
        except EstimateTooLongError as error:
            return await self._long_runs.accept(strategy, request, error, key, client)
        source: InlineInput | None = None
        kind, inline = InputKind.GENERATED, None
        if request.items is not None:
            source, kind = InlineInput(request.workload, request.items), InputKind.ITEMS
            if source.size <= MOST_BYTES:
                inline, source = source.in_memory(), None
        # Take a place before using the store: a flood of runs must not make it write and remove
        # a task for each.
        with self._context.hosts.place(client) as place:
            needed = request.total_items * result_bytes(plan.workload)
            needed += 0 if source is None else source.size
            await asyncio.to_thread(self._context.storage.check, client, needed)
            total, spec = request.total_items, spec_of(request, kind)
            run = _Run(self._context, request, plan, spec, client, total, seconds)
            run.source, run.place, run.items = source, place, inline
            return await self._executed(run)

    async def run_fastest(
        self, request: RunRequest, client: str | None = None
    ) -> RunResult | AcceptedRun:
        """Do the same as `run`, with the strategy that is predicted to be the fastest."""
        context, asked = self._context, (request.workload, request.parameters)
        reports = await context.catalogue.reports(*asked)
        known = await context.calibrations.known(*asked)
        items = GeneratedItems(request.total_items)
        plan, _ = plan_for(AUTO, request, items, reports, known, context.settings, context.memory)
        return await self.run(plan.strategy, request, None, client)

    async def run_upload(
        self,
        query: UploadQuery,
        media_type: str,
        chunks: AsyncIterator[bytes],
        key: str | None = None,
        client: str | None = None,
    ) -> RunResult | AcceptedRun:
        """Do the same as `run`, over the rows of a `text/csv` or `application/x-ndjson` stream."""
        strategy = query.strategy
        if await self._long_runs.accepted_before(key, client):
            asked = query, strategy, media_type, chunks
            return AcceptedRun(**dict(await self._background.submit_upload(*asked, key, client)))
        digest = None
        if key is not None:
            digest = upload_digest(query, strategy, media_type)
            chunks = hashed(chunks, digest)
        plan, _ = await self._plan(query.strategy, query, GeneratedItems(0))
        self._context.memory.check(plan)  # only the workers' memory; the items are not known yet
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
    ) -> tuple[Plan, Calibration]:
        context, asked = self._context, (request.workload, request.parameters)
        reports = await context.catalogue.reports(*asked)
        known = await context.calibrations.known(*asked)
        plan = make_plan(strategy, request, items, reports, known, context.settings)
        context.clusters.check(strategy)
        return plan, known

    async def _executed(self, run: _Run) -> RunResult | AcceptedRun:
        """Execute a run. Raises its error once that is stored."""
        task = run.task()

        async def answer(outcome: Outcome) -> RunResult | AcceptedRun:
            if isinstance(outcome.error, EstimateTooLongError):
                # Its rows are in the item file, and nothing was computed.
                long = task
                if run.digest is not None:
                    digest = run.digest.hexdigest()
                    long = replace(task, idempotency_key=run.key, request_hash=digest)
                return await self._long_runs.take_over(long, run.plan, outcome.error)
            if outcome.error is not None:
                raise outcome.error
            context = self._context
            return await in_store_thread(
                task_result, context.store, context.certificates, task.task_id
            )

        return await self._runner.execute_now(task, run.policy(task.task_id), answer)


class LongRunService:
    """Accepts runs over the limit as background tasks, if HOTLOOP_LONG_RUNS allows."""

    def __init__(
        self, context: RunContext, background: BackgroundService, nodes: NodeStore
    ) -> None:
        self._context = context
        self._background = background
        self._nodes = nodes

    async def accepted_before(self, key: str | None, client: str | None) -> bool:
        """Return True if the client has a background task with this key, with which the run must be
        answered. Raises StoreError.
        """
        if self._context.settings.long_runs is LongRuns.REFUSE:
            return False
        return await self._background.knows(key, client)

    async def accept(
        self,
        strategy: StrategyName,
        request: RunRequest,
        error: EstimateTooLongError,
        key: str | None,
        client: str | None,
    ) -> AcceptedRun:
        """Accept a run that is not stored yet. Raises EstimateTooLongError if it must not be
        accepted, and the errors of accepting a background task.
        """
        await self._check(error)
        with _explained(error):
            view = await self._background.submit(
                BackgroundRequest.of(request, strategy), key, client
            )
        return _answer(view, error)

    async def take_over(self, task: Task, plan: Plan, error: EstimateTooLongError) -> AcceptedRun:
        """Make a synchronous task, whose items are in its item file, a background task. Withdraw it
        if it is not accepted. Raises the errors of `accept`.
        """
        try:
            await self._check(error)
        except BaseException:
            await asyncio.shield(in_store_thread(withdraw, self._context, task.task_id))
            raise
        spec = replace(
            TaskSpec.from_json(task.spec),
            kernel=plan.kernel,
            workers=plan.workers,
            origin=origin_to_json(current()),
            input=input_spec(InputKind.ITEMS),
            needs={"bytes": self._context.memory.needed(plan)} | version_needs(plan.source),
        )
        long = replace(
            task,
            task_type=TaskType.BACKGROUND,
            spec=spec.to_json(),
            total_items=plan.item_count,
            estimated_seconds=error.estimate_seconds,
        )
        with _explained(error):
            view = await self._background.take_over(long, plan.batch_size)
        return _answer(view, error)

    async def _check(self, error: EstimateTooLongError) -> None:
        settings = self._context.settings
        if settings.long_runs is LongRuns.REFUSE:
            raise error
        if not settings.background_runs and not await in_store_thread(self._has_nodes):
            raise EstimateTooLongError(error.estimate_seconds, error.limit_seconds, _NOT_EXECUTED)

    def _has_nodes(self) -> bool:
        alive = self._nodes.alive()
        return any(n.role == _NODE_ROLE and n.node_id in alive for n in self._nodes.list())


@contextmanager
def _explained(error: EstimateTooLongError) -> Iterator[None]:
    """If the client's limit refuses the background task, say in the error why it was tried."""
    try:
        yield
    except ClientLimitError as limit:
        raise ClientLimitError(
            f"{_why(error)} It cannot be accepted in the background now: {limit.text}. "
            f"{_IN_THE_FOREGROUND}",
            limit.retry_after_seconds,
        ) from limit


def _answer(view: TaskView, error: EstimateTooLongError) -> AcceptedRun:
    text = (
        f"{_why(error)} It was accepted as a background task. Follow it at links.status or "
        f"links.events; its results are at links.results. {_IN_THE_FOREGROUND}"
    )
    return AcceptedRun(**dict(view), message=text)


def _why(error: EstimateTooLongError) -> str:
    return (
        f"The run is estimated at {error.estimate_seconds:,.1f} s, over the limit of "
        f"{error.limit_seconds:,.0f} s for a synchronous one."
    )
