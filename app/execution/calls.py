"""Calls: a few items computed for one caller at once, and stored as a task that is over already.

What is predicted to take longer than MOST_SECONDS is executed as a run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import StoreError
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.micro_batches import (
    MOST_ITEMS,
    MOST_SECONDS,
    CallKind,
    Computed,
    MicroBatches,
)
from hotloop.app.execution.runs import RunService
from hotloop.app.execution.specs import spec_of
from hotloop.app.logs.origin import NOWHERE
from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.prediction.plan import make_plan
from hotloop.app.runhost.measurements import KEPT_ERRORS, Measurements
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.calls import CallRequest, Record
from hotloop.app.schemas.declared import ItemRow
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.runs import RunRequest, request_model
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.sources.base import Batch, Columns, ItemError
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import pack, result_bytes, result_columns
from hotloop.app.tasks.model import Shard, Task, new_task_id, utc_now
from hotloop.app.tasks.needs import version_needs
from hotloop.app.tasks.recording import FinishedTask, store_each
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
class _Ready:
    """A kind of call, with all that its tasks have in common."""

    kind: CallKind
    workload: Workload
    reports: Sequence[KernelReport]
    until: float
    spec: Mapping[str, Any]
    item_bytes: int


class CallService:
    """Answers calls: in micro-batches, or as runs."""

    def __init__(self, context: RunContext, runs: RunService, batches: MicroBatches) -> None:
        self._context = context
        self._runs = runs
        self._batches = batches
        self._records = _Records(context)
        self._ready: dict[tuple[Any, ...], _Ready] = {}

    async def close(self) -> None:
        """End the run host of calls, and store what is still to be stored."""
        await self._batches.close()
        await self._records.close()

    def _known(self, workload: Workload, request: CallRequest) -> _Ready | None:
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

    async def _made(self, workload: Workload, request: CallRequest) -> _Ready:
        """Return what calls like this one need. Raises InvalidRequestError, NotReadyError and
        kernels.InvalidParameterError.
        """
        found = self._known(workload, request)
        if found is None:
            found = await self._made_ready(workload, request)
            while len(self._ready) >= MOST_KINDS:
                del self._ready[next(iter(self._ready))]
            self._ready[_key(workload, request)] = found
        return found

    async def _made_ready(self, workload: Workload, request: CallRequest) -> _Ready:
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
        spec = spec_of(run, InputKind.ITEMS)
        return _Ready(
            kind=CallKind(plan, empty, costs.seconds_of_call(operations, 1) - empty),
            workload=workload,
            reports=await context.hosts.kernels(),
            until=time.monotonic() + KIND_SECONDS,
            spec=replace(spec, needs=version_needs(plan.source)).to_json(),
            item_bytes=result_bytes(workload.name),
        )

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

    def is_short(self, workload: Workload, request: CallRequest) -> bool:
        """Return True if it is known that the call is computed at once, not as a run."""
        ready = self._known(workload, request)
        return ready is not None and _is_short(ready.kind, len(request.items))

    async def call(
        self, workload: Workload, request: CallRequest, client: str | None = None
    ) -> CallAnswer | AcceptedRun:
        """Compute the items, and return their outputs; or the background task that they became,
        because they would take too long to wait for.

        Raises InvalidRequestError, NotReadyError, kernels.InvalidParameterError, StoreError, and
        the errors of `MicroBatches.compute` and `RunService.run`.
        """
        columns = ItemColumns.of(workload.name, request.items)
        ready, count = await self._made(workload, request), len(columns)
        if not _is_short(ready.kind, count):
            return await self._run(workload, request, columns, client)
        if request.record is not Record.NONE:
            stored = count * ready.item_bytes
            if not self._context.storage.fits(client, stored):
                await asyncio.to_thread(self._context.storage.check, client, stored)
        begun = utc_now()
        computed = await self._batches.compute(ready.kind, columns.item_ids, columns.columns)
        errors = tuple(computed.failed[position] for position in sorted(computed.failed))
        failed = np.zeros(count, dtype=np.bool_)
        failed[list(computed.failed)] = True
        self._context.metrics.call_ended(workload.name, ready.kind.plan.kernel, count, len(errors))
        task_id = None
        if request.record is not Record.NONE:
            task_id = new_task_id()
            finished = self._finished(
                ready, task_id, client, begun, columns, computed, failed, errors
            )
            await self._records.store(finished, at_once=request.record is Record.DURABLE)
        source = workload.source
        return CallAnswer(
            task_id=task_id,
            workload=workload.name,
            workload_version=None if source is None else source.short_version,
            kernel=ready.kind.plan.kernel,
            record=request.record,
            columns=computed.columns,
            failed=failed,
            errors=errors[:KEPT_ERRORS],
            duration_seconds=computed.seconds,
        )

    def _finished(
        self,
        ready: _Ready,
        task_id: str,
        client: str | None,
        begun: datetime,
        items: ItemColumns,
        computed: Computed,
        failed: npt.NDArray[np.bool_],
        errors: tuple[ItemError, ...],
    ) -> FinishedTask:
        count, plan = len(items), ready.kind.plan
        measured = Measurements(
            checksum=computed.checksum,
            errors=errors[:KEPT_ERRORS],
            duration_seconds=computed.seconds,
            setup_seconds=0.0,
            effective_workers=1,
            batch_size=count,
        ).to_json()
        counts: dict[str, Any] = {
            "status": TaskStatus.COMPLETED,
            "items_processed": count,
            "failed_items": len(errors),
        }
        task = Task(
            task_id=task_id,
            task_type=TaskType.SYNCHRONOUS,
            spec=ready.spec,
            workload=plan.workload,
            kernel=plan.kernel,
            strategy=plan.strategy,
            total_items=count,
            created_at=begun,
            start_time=begun,
            end_time=utc_now(),
            owner=self._context.node,
            measurements=measured,
            client=client,
            stored_bytes=count * ready.item_bytes,
            item_bytes=ready.item_bytes,
            **counts,
        )
        shard = Shard(
            task_id=task_id,
            shard=0,
            start=0,
            count=count,
            attempt=1,
            node=self._context.node,
            details=measured,
            **counts,
        )
        result = BatchResult(
            batch=Batch(0, 0, count),
            item_ids=items.item_ids,
            columns=computed.columns,
            failed=failed,
            errors=errors,
            checksum=computed.checksum,
            io_seconds=0.0,
        )
        names = result_columns(plan.workload)
        return FinishedTask(task, shard, names, pack([result], names))

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

    def __init__(self, context: RunContext) -> None:
        self._engine = context.store.engine
        self._waiting: list[tuple[FinishedTask, asyncio.Future[None]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def store(self, finished: FinishedTask, *, at_once: bool) -> None:
        """Store a task. Return once it is stored; without `at_once` before that. Raises StoreError
        if it waits for the store.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((finished, stored))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store())
        if at_once or len(self._waiting) > MOST_UNSTORED:
            await stored
        else:
            stored.add_done_callback(_note_unstored)

    async def _store(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                reasons = await in_store_thread(
                    store_each, self._engine, [finished for finished, _ in group]
                )
            except StoreError as error:
                reasons = [error] * len(group)
            for (_, stored), reason in zip(group, reasons, strict=True):
                if stored.done():
                    continue
                if reason is None:
                    stored.set_result(None)
                else:
                    stored.set_exception(reason)

    async def close(self) -> None:
        """Return once everything is stored."""
        if self._storing is not None:
            await asyncio.wait((self._storing,))


def _note_unstored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        logger.error("the record of a call is lost: %s", error)
