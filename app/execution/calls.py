"""Calls: a few items computed for one caller at once, and stored as a task that is over already.

What is predicted to take longer than MOST_SECONDS is executed as a run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hotloop.app.database.threads import Groups, in_store_thread
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.kinds import Kind, Kinds, run_request
from hotloop.app.execution.micro_batches import MicroBatches
from hotloop.app.execution.runs import RunService
from hotloop.app.runhost.measurements import KEPT_ERRORS
from hotloop.app.schemas.calls import CallRequest, Record
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.sources.base import Columns, ItemError
from hotloop.app.tasks.model import utc_now
from hotloop.app.tasks.recording import FinishedTask, Recorder
from hotloop.kernels import Workload

logger = logging.getLogger(__name__)

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


class CallService:
    """Answers calls: in micro-batches, or as runs."""

    def __init__(
        self,
        context: RunContext,
        runs: RunService,
        batches: MicroBatches,
        kinds: Kinds,
        recorder: Recorder,
    ) -> None:
        self._context = context
        self._runs = runs
        self._batches = batches
        self._kinds = kinds
        self._recorder = recorder
        self._records = Groups(recorder.store)

    async def close(self) -> None:
        """Store what is still to be stored."""
        await self._records.close()

    def short(self, workload: Workload, request: CallRequest) -> Kind | None:
        """Return what `compute` takes, if it is known that this call is computed at once, and not
        as a run.
        """
        kind = self._kinds.known(workload, request.parameters, request.kernel)
        return kind if kind and kind.is_short(len(request.items)) else None

    async def call(
        self, workload: Workload, request: CallRequest, client: str | None = None
    ) -> CallAnswer | AcceptedRun:
        """Compute the items, and return their outputs; or the background task that they became,
        because they would take too long to wait for.

        Raises InvalidRequestError, NotReadyError, kernels.InvalidParameterError, StoreError, and
        the errors of `MicroBatches.compute` and `RunService.run`.
        """
        kind = await self._kinds.get(workload, request.parameters, request.kernel)
        if kind.is_short(len(request.items)):
            return await self.compute(kind, request, client)
        items = ItemColumns.of(workload.name, request.items)
        return await self._run(workload, request, items, client)

    async def compute(
        self, kind: Kind, request: CallRequest, client: str | None = None
    ) -> CallAnswer:
        """Do the same as `call`, for a call of which `short` has returned the kind."""
        workload, record = kind.workload, request.record
        items = ItemColumns.of(workload.name, request.items)
        count = len(items)
        if record is not Record.NONE:
            stored = count * kind.item_bytes
            if not self._context.storage.fits(client, stored):
                await asyncio.to_thread(self._context.storage.check, client, stored)
        begun = utc_now()
        computed = await self._batches.compute(kind.calls, items.item_ids, items.columns)
        errors = computed.errors
        kind.count(count, len(errors))
        task_id = None
        if record is not Record.NONE:
            chunk, measured = kind.stored(items.item_ids, computed)
            finished = self._recorder.finished(
                kind.template, begun, utc_now(), client, chunk, measured
            )
            task_id = finished.task_id
            await self._store(finished, at_once=record is Record.DURABLE)
        source = workload.source
        return CallAnswer(
            task_id=task_id,
            workload=workload.name,
            workload_version=None if source is None else source.short_version,
            kernel=kind.kernel,
            record=record,
            columns=computed.columns,
            failed=computed.is_failed(count),
            errors=errors[:KEPT_ERRORS],
            duration_seconds=computed.seconds,
        )

    async def _store(self, finished: FinishedTask, *, at_once: bool) -> None:
        """Store a task. Return once it is stored; without `at_once` before that. Raises StoreError
        if it waits for the store.
        """
        stored = self._records.add(finished)
        if at_once or len(self._records) > MOST_UNSTORED:
            await stored
        else:
            stored.add_done_callback(_note_unstored)

    async def _run(
        self, workload: Workload, request: CallRequest, items: ItemColumns, client: str | None
    ) -> CallAnswer | AcceptedRun:
        """Execute a call as a run, with the strategy that is predicted to be the fastest."""
        run = run_request(workload, request.parameters, request.kernel, items)
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


def _note_unstored(stored: asyncio.Future[None]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        logger.error("the record of a call is lost: %s", error)
