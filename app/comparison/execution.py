"""A comparison from its begin, or where it was left, to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hotloop.app.comparison.equality import differences
from hotloop.app.comparison.loop import ComparisonLoop
from hotloop.app.comparison.measuring import HostLease, Measuring
from hotloop.app.comparison.planning import make_plans, plan_record, pool_seconds
from hotloop.app.comparison.record import CellId, ComparisonRecord
from hotloop.app.errors import (
    NothingMeasuredError,
    OutputsDifferError,
    RunCancelledError,
    RunError,
    ServiceError,
    internal_text,
)
from hotloop.app.execution.active_run import ActiveRun
from hotloop.app.execution.executions import Outcome, RunContext, log_end
from hotloop.app.execution.measurements import summarize
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.names import TaskStatus
from hotloop.app.prediction import host_facts
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.sources.base import Items
from hotloop.app.strategies.base import Plan
from hotloop.app.system import throttling
from hotloop.app.tasks.model import Shard
from hotloop.kernels import get_workload, parity_faults
from hotloop.kernels.contract import REFERENCE

logger = logging.getLogger(__name__)

Call = Callable[..., Awaitable[object]]
"""Calls what blocks in a thread, with its arguments; again and again when it is patient."""


async def new_record(
    context: RunContext, request: CompareRequest, items: Items, reports: tuple[KernelReport, ...]
) -> tuple[ComparisonRecord, dict[CellId, Plan]]:
    """What is planned for a resolved request, and the plans of its cells. Raises
    InvalidRequestError, kernels.InvalidParameterError.
    """
    known = await context.calibrations.known()
    estimate = partial(estimate_seconds, calibration=known)
    plans, reasons = make_plans(request, items, reports, known, context.settings, estimate)
    free = await asyncio.to_thread(host_facts.available_bytes)
    setup = pool_seconds(reports, request.workload, request.workers)
    memory = replace(context.memory, run_bytes=min(context.memory.run_bytes, free))
    record = await asyncio.to_thread(plan_record, request, plans, reasons, estimate, memory, setup)
    return record, plans


@dataclass(slots=True)
class ComparisonExecution:
    """One execution of a comparison that has begun."""

    context: RunContext
    shard: Shard
    run: ActiveRun
    request: CompareRequest
    record: ComparisonRecord
    plans: dict[CellId, Plan]
    lease: HostLease
    call: Call

    async def execute(self) -> Outcome:
        """What ends it is in the outcome, a fault of this program as a RunError."""
        error: ServiceError | None = None
        planned = {"measurements": self.record.planned, "done": self.record.done}
        logger.info("comparison begins", extra={FIELDS: planned})
        try:
            await self._execute()
        except asyncio.CancelledError:
            error = RunCancelledError()
        except ServiceError as raised:
            error = raised
        except Exception as fault:
            logger.exception("the comparison %s met a fault", self.shard.task_id)
            error = RunError(internal_text(fault))
        return Outcome(error, self.record, self.record.done, 0)

    async def _execute(self) -> None:
        record, before = self.record, throttling()
        if not record.host:
            reports = await self.context.hosts.kernels()
            record.host = await asyncio.to_thread(
                host_facts.host_facts, reports, self.request.workload
            )
        throttled_before = record.host["throttled_seconds"] or 0.0
        measure = Measuring(self.context, self.lease, self.run, record, self.plans)
        await self._save()
        loop = ComparisonLoop(record, self.shard.task_id, measure, self._save, time.monotonic)
        try:
            await loop.run()
        finally:
            record.host["load_after"] = host_facts.load()
            held_back = host_facts.throttled_since(before)
            if held_back is not None:
                record.host["throttled_seconds"] = throttled_before + held_back
        await asyncio.to_thread(self._check_parity)
        await self._save()
        found = differences(record)
        if found:
            first = found[0]
            raise OutputsDifferError(", ".join(map(str, first.cells)), first.detail)
        if not any(cell.timed and not cell.is_skipped for cell in record.cells):
            counts = Counter(cell.reason for cell in record.cells)
            reasons = " | ".join(f"{n} × {reason}" for reason, n in counts.most_common(3))
            raise NothingMeasuredError(reasons)

    async def _save(self) -> None:
        if self.run.is_cancelled:
            raise RunCancelledError
        await self.call(self._store)

    def _store(self) -> None:
        """Blocks; nothing is measured meanwhile."""
        record, shards = self.record, self.context.store.shards
        ref, attempt = self.shard.ref, self.shard.attempt
        if record.planned != self.shard.count:
            shards.count_items(ref, attempt, record.planned)
        shards.add_results(ref, attempt, [], record.done, 0, record.to_json())

    def _check_parity(self) -> None:
        """Hold `python` against the compiled kernels by the rule of the workload. Blocks."""
        record, python = self.record, REFERENCE
        compiled = [kernel for kernel in sorted(record.rows) if kernel != python]
        stages = next((plan.stages for plan in self.plans.values()), ())
        if python not in record.rows or not compiled:
            return
        if any(stage.source != "simulated" for stage in stages):
            return  # what a source gave for the items is known to the run host only
        plan = next(iter(self.plans.values()))
        workload = get_workload(plan.workload)
        dtypes = {column.name: column.dtype for column in workload.columns_out}
        record.parity_faults = []
        for kernel in compiled:
            count = min(record.sample_rows(python), record.sample_rows(kernel))
            inputs = plan.items.load(plan.workload, 0, count).columns
            expected, computed = (
                {
                    name: np.array(record.rows[k][name][:count], dtype)
                    for name, dtype in dtypes.items()
                }
                for k in (python, kernel)
            )
            faults = parity_faults(workload, inputs, plan.parameters, expected, computed)
            record.parity_faults += [f"{python} and {kernel}: {fault}" for fault in faults]
        record.parity_checked = True


def end_comparison(context: RunContext, shard: Shard, outcome: Outcome) -> TaskStatus:
    """Store how the execution ended; returns the task's state. Blocks.

    Raises StoreError, and TaskConflictError when the execution is no longer the current one.
    """
    error, shards = outcome.error, context.store.shards
    if outcome.status is TaskStatus.COMPLETED:
        # Rounds that the budget had no room for are not to come any more.
        shards.count_items(shard.ref, shard.attempt, outcome.items_processed)
    status = shards.end(
        shard.ref,
        shard.attempt,
        outcome.status,
        outcome.details.to_json(),
        outcome.items_processed,
        summarize,
        error_code=type(error).__name__ if error else None,
        error_message=str(error) if error else None,
    )
    measured = outcome.items_processed - shard.items_processed
    context.metrics.comparison_ended(outcome.status, measured)
    log_end("comparison ended", shard, outcome)  # last: what is told to have ended is counted
    return status
