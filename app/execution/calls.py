"""Calls: a few items computed for one caller at once, and stored as a task that is over already.

What is predicted to take longer than MOST_SECONDS is executed as a run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.database.threads import in_store_thread, store_threads
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.micro_batches import (
    MOST_ITEMS,
    MOST_SECONDS,
    CallKind,
    MicroBatches,
)
from hotloop.app.execution.runs import RunService
from hotloop.app.execution.specs import spec_of
from hotloop.app.logs.origin import NOWHERE
from hotloop.app.names import StrategyName, TaskType
from hotloop.app.prediction.plan import make_plan
from hotloop.app.runhost.measurements import KEPT_ERRORS, Measurements
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.calls import CallRequest, Record
from hotloop.app.schemas.declared import ItemRow
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.runs import RunRequest, request_model
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.sources.base import Columns, ItemError
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.tasks.chunks import ResultColumns, pack_all, result_bytes, result_columns
from hotloop.app.tasks.model import Task, utc_now
from hotloop.app.tasks.needs import version_needs
from hotloop.app.tasks.recording import FinishedTask, Recorder, Template
from hotloop.app.tasks.spec import InputKind
from hotloop.kernels import Workload

logger = logging.getLogger(__name__)

MOST_KINDS: Final = 256
"""Kinds of calls that are kept ready."""

KIND_SECONDS: Final = 60.0
"""Seconds after which a kind is made anew, as costs may be known better by then."""

MOST_UNSTORED: Final = 10_000
"""Lazy records that wait to be stored; with more, callers wait for theirs."""


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """The outcome of a call, or of the run that it was executed as."""

    task_id: str | None
    workload: str
    workload_version: str | None
    kernel: str
    record: Record
    columns: Columns
    """The output columns, a row for each item."""
    failed: npt.NDArray[np.bool_]
    errors: Sequence[ItemError]
    duration_seconds: float


@dataclass(frozen=True, slots=True)
class ReadyCalls:
    """A kind of call, with all that its calls have in common."""

    kind: CallKind
    workload: Workload
    reports: Sequence[KernelReport]
    until: float
    template: Template
    item_bytes: int
    columns: ResultColumns
    count: Callable[[int, int], None]
    """Function that counts a call: its items, and how many of them failed."""


class CallService:
    """Answers calls: in micro-batches, or as runs."""

    def __init__(self, context: RunContext, runs: RunService, batches: MicroBatches) -> None:
        self._context = context
        self._runs = runs
        self._batches = batches
        self._recorder = Recorder(context.store.engine)
        self._records = _Records(self._recorder)
        self._ready: dict[tuple[Any, ...], ReadyCalls] = {}

    async def close(self) -> None:
        """End the run host of calls, and store what is still to be stored."""
        await self._batches.close()
        await self._records.close()

    def short(self, workload: Workload, request: CallRequest) -> ReadyCalls | None:
        """Return what `compute` takes, if it is known that this call is computed at once, and not
        as a run.
        """
        ready = self._known(workload, request)
        return ready if ready and _is_short(ready.kind, len(request.items)) else None

    def _known(self, workload: Workload, request: CallRequest) -> ReadyCalls | None:
        """Return what calls like this one need, if that is known and holds."""
        found = self._ready.get(_key(workload, request))
        last = self._context.hosts.last_ready
        if (
            found is None
            or found.workload is not workload
            or time.monotonic() > found.until
            or last is None
            or found.reports is not last.kernels
        ):
            return None
        return found

    async def _made_ready(self, workload: Workload, request: CallRequest) -> ReadyCalls:
        """Return what calls like this one need. Raises InvalidRequestError, NotReadyError and
        kernels.InvalidParameterError.
        """
        if (found := self._known(workload, request)) is not None:
            return found
        context, asked = self._context, (workload.name, request.parameters)
        reports = await context.catalogue.reports(*asked)
        known = await context.calibrations.known(*asked)
        run = self._as_run_request(workload, request, items=None)
        items = GeneratedItems(1)
        plan = make_plan(StrategyName.SEQUENTIAL, run, items, reports, known, context.settings)
        plan = replace(context.memory.bounded(plan), slice_items=None, origin=NOWHERE)
        costs = known.kernel(workload.name, plan.kernel)
        operations = workload.operations(plan.parameters)
        empty = costs.seconds_of_call(operations, 0)
        columns, item_bytes = result_columns(workload.name), result_bytes(workload.name)
        spec = replace(spec_of(run, InputKind.ITEMS), needs=version_needs(plan.source))
        like = Task(
            task_id="",
            task_type=TaskType.SYNCHRONOUS,
            spec=spec.to_json(),
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=0,
            created_at=utc_now(),
            owner=context.node,
            item_bytes=item_bytes,
        )
        ready = ReadyCalls(
            kind=CallKind(plan, empty, costs.seconds_of_call(operations, 1) - empty),
            workload=workload,
            reports=await context.hosts.kernels(),
            until=time.monotonic() + KIND_SECONDS,
            template=self._recorder.template(like, columns),
            item_bytes=item_bytes,
            columns=columns,
            count=context.metrics.calls_of(workload.name, plan.kernel),
        )
        while len(self._ready) >= MOST_KINDS:
            del self._ready[next(iter(self._ready))]
        self._ready[_key(workload, request)] = ready
        return ready

    @staticmethod
    def _as_run_request(
        workload: Workload, request: CallRequest, items: Sequence[ItemRow] | None
    ) -> RunRequest:
        # Constructed, because everything has been checked.
        return request_model(RunRequest, workload.name).model_construct(
            {"workload", "parameters", "kernel", "items", "workers", "db", "cache"},
            workload=workload.name,
            parameters=request.parameters,
            kernel=request.kernel,
            items=items,
            workers=1,
            db="none",
            cache="none",
        )

    async def call(
        self, workload: Workload, request: CallRequest, client: str | None = None
    ) -> CallAnswer | AcceptedRun:
        """Compute the items, and return their outputs; or the background task that they became,
        because they would take too long to wait for.

        Raises InvalidRequestError, NotReadyError, kernels.InvalidParameterError, StoreError, and
        the errors of `MicroBatches.compute` and `RunService.run`.
        """
        ready = await self._made_ready(workload, request)
        if _is_short(ready.kind, len(request.items)):
            return await self.compute(ready, request, client)
        items = ItemColumns.of(workload.name, request.items)
        return await self._run(workload, request, items, client)

    async def compute(
        self, ready: ReadyCalls, request: CallRequest, client: str | None = None
    ) -> CallAnswer:
        """Do the same as `call`, for a call of which `short` has returned `ready`."""
        workload, kernel, record = ready.workload, ready.kind.plan.kernel, request.record
        items = ItemColumns.of(workload.name, request.items)
        count = len(items)
        if record is not Record.NONE:
            stored = count * ready.item_bytes
            if not self._context.storage.fits(client, stored):
                await asyncio.to_thread(self._context.storage.check, client, stored)
        begun = utc_now()
        computed = await self._batches.compute(ready.kind, items.item_ids, items.columns)
        errors = tuple(computed.failed[position] for position in sorted(computed.failed))
        failed = np.zeros(count, dtype=np.bool_)
        failed[list(computed.failed)] = True
        ready.count(count, len(errors))
        task_id = None
        if record is not Record.NONE:
            chunk = pack_all(items.item_ids, computed.columns, failed, ready.columns)
            measured = Measurements(
                checksum=computed.checksum,
                errors=errors[:KEPT_ERRORS],
                duration_seconds=computed.seconds,
                setup_seconds=0.0,
                effective_workers=1,
                batch_size=count,
            ).to_json()
            finished = self._recorder.finished(
                ready.template, begun, utc_now(), client, chunk, measured
            )
            task_id = finished.task_id
            await self._records.store(finished, at_once=record is Record.DURABLE)
        source = workload.source
        return CallAnswer(
            task_id=task_id,
            workload=workload.name,
            workload_version=None if source is None else source.short_version,
            kernel=kernel,
            record=record,
            columns=computed.columns,
            failed=failed,
            errors=errors[:KEPT_ERRORS],
            duration_seconds=computed.seconds,
        )

    async def _run(
        self, workload: Workload, request: CallRequest, items: ItemColumns, client: str | None
    ) -> CallAnswer | AcceptedRun:
        """Execute a call as a run, with the strategy that is predicted to be the fastest."""
        run = self._as_run_request(workload, request, items)
        run = run.model_copy(update={"workers": self._context.usable_cpus})
        result = await self._runs.run_fastest(run, client)
        if isinstance(result, AcceptedRun):
            return result
        rows = await in_store_thread(self._context.store.all_results, result.task_id)
        return CallAnswer(
            task_id=result.task_id,
            workload=result.workload,
            workload_version=result.workload_version,
            kernel=result.kernel,
            record=Record.DURABLE,
            columns=rows.columns,
            failed=rows.failed,
            errors=[ItemError(e.item_id, e.stage, e.reason) for e in result.errors],
            duration_seconds=result.duration_seconds or 0.0,
        )


def _is_short(kind: CallKind, count: int) -> bool:
    return count <= MOST_ITEMS and kind.seconds(count) <= MOST_SECONDS


def _key(workload: Workload, request: CallRequest) -> tuple[Any, ...]:
    return (workload.name, request.kernel, *sorted(request.parameters.items()))


class _Records:
    """Stores the tasks of calls in groups: what comes while a group is stored goes with the next.

    One transaction for a group, which is written through to the disk once, costs little more than
    one for a task.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._waiting: list[tuple[FinishedTask, asyncio.Future[None]]] = []
        self._storing: asyncio.Future[list[Exception | None]] | None = None

    async def store(self, finished: FinishedTask, *, at_once: bool) -> None:
        """Store a task. Return once it is stored; without `at_once` before that. Raises StoreError
        if it waits for the store.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((finished, stored))
        if self._storing is None:
            self._store()
        if at_once or len(self._waiting) > MOST_UNSTORED:
            await stored
        else:
            stored.add_done_callback(_note_unstored)

    def _store(self) -> None:
        group, self._waiting = self._waiting, []
        finished = [each for each, _ in group]
        self._storing = store_threads().submit(partial(self._recorder.store, finished))
        self._storing.add_done_callback(partial(self._stored, [stored for _, stored in group]))

    def _stored(
        self,
        group: Sequence[asyncio.Future[None]],
        storing: asyncio.Future[list[Exception | None]],
    ) -> None:
        error = storing.exception()
        reasons = storing.result() if error is None else [error] * len(group)
        for stored, reason in zip(group, reasons, strict=True):
            if stored.done():
                continue
            if reason is None:
                stored.set_result(None)
            else:
                stored.set_exception(reason)
        self._storing = None
        if self._waiting:
            self._store()

    async def close(self) -> None:
        """Return once everything is stored."""
        while self._storing is not None:
            await asyncio.wait((self._storing,))


def _note_unstored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        logger.error("the record of a call is lost: %s", error)
