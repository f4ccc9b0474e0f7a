"""The body of comparisons: executes a comparison from its first or next measurement to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hotloop.app.comparison.equality import differences
from hotloop.app.comparison.loop import ComparisonLoop
from hotloop.app.comparison.measuring import HostLease, Measuring
from hotloop.app.comparison.planning import make_plans, plan_record, setup_seconds_of
from hotloop.app.comparison.presenter import comparison_view
from hotloop.app.comparison.record import CellId, ComparisonRecord
from hotloop.app.comparison.specs import compare_request_of
from hotloop.app.errors import (
    NothingMeasuredError,
    OutputsDifferError,
    RunCancelledError,
)
from hotloop.app.execution.context import Outcome, RunContext, Work
from hotloop.app.execution.items import items_of
from hotloop.app.execution.specs import check_code
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.observability.metrics import Metrics
from hotloop.app.prediction import machine
from hotloop.app.prediction.memory import available_bytes
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.sources.base import Columns, Items
from hotloop.app.strategies.base import Plan
from hotloop.app.system import throttling
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.store import TaskStore
from hotloop.kernels import get_workload, parity_faults
from hotloop.kernels.contract import REFERENCE

logger = logging.getLogger(__name__)


async def new_record(
    context: RunContext, request: CompareRequest, items: Items, reports: tuple[KernelReport, ...]
) -> tuple[ComparisonRecord, dict[CellId, Plan]]:
    """Return the record of a resolved request before any measurement, and its cells' plans. Raises
    InvalidRequestError, kernels.InvalidParameterError.
    """
    known = await context.calibrations.known(request.workload, request.parameters, exact=True)
    estimate = partial(estimate_seconds, calibration=known)
    plans, reasons = make_plans(request, items, reports, known, context.settings, estimate)
    free = await asyncio.to_thread(available_bytes)
    for cell, plan in list(plans.items()):
        if not context.clusters.is_up(plan.strategy):
            reasons[cell] = f"the {plan.strategy} cluster cannot be reached"
            del plans[cell]
    setup = setup_seconds_of(plans, reports, known)
    memory = replace(context.memory, run_bytes=min(context.memory.run_bytes, free))
    offered = context.settings.offered_strategies
    record = await asyncio.to_thread(
        plan_record, request, offered, plans, reasons, estimate, memory, setup
    )
    return record, plans


class ComparisonBody:
    """The Body of comparisons. Each comparison holds one run host for its whole execution."""

    async def execute(self, work: Work) -> None:
        context, task = work.context, work.task
        check_code(task)
        stored = ComparisonRecord.from_json(work.shard.details)
        request = compare_request_of(task.spec)
        host = HostLease(work)
        try:
            client = await host.client()
            asked = request.workload, request.parameters
            reports = await context.catalogue.reports(*asked, exact=True)
            whole = replace(task, total_items=request.items_count)
            async with items_of(context, client, whole) as items:
                record, plans = await new_record(context, request, items, reports)
                check_code(task)
                for cell in stored.cells if stored else ():
                    if cell.cell not in plans and not cell.is_skipped:
                        cell.reason = "its kernel is not available on the node that resumed it"
                record = stored or record
                await work.begin(record.planned)
                work.record = record
                await _Execution(work, request, record, plans, host).execute()
        finally:
            await host.close()

    async def batch_seconds(self, context: RunContext, task: Task, shard: Shard) -> float:
        """Return the estimate of the whole comparison, in which a measurement may take any part."""
        return task.estimated_seconds or 0.0

    def summarize(self, shards: Sequence[Shard]) -> dict[str, Any]:
        """Return nothing: the measurements of a comparison stay with its shard."""
        return {}

    def count_end(self, metrics: Metrics, task: Task, shard: Shard, outcome: Outcome) -> None:
        measured = outcome.items_processed - shard.items_processed
        metrics.comparison_ended(outcome.status, measured)

    def duration_seconds(self, task: Task, shards: Sequence[Shard]) -> float | None:
        record = ComparisonRecord.from_json(shards[0].details if shards else None)
        return None if record is None else record.duration_seconds

    def view(self, store: TaskStore, task: Task, shards: Sequence[Shard]) -> dict[str, Any]:
        record = ComparisonRecord.from_json(shards[0].details if shards else None)
        return {"comparison": None if record is None else comparison_view(task, record)}


@dataclass(slots=True)
class _Execution:
    """An execution of a comparison that has begun."""

    work: Work
    request: CompareRequest
    record: ComparisonRecord
    plans: dict[CellId, Plan]
    host: HostLease

    async def execute(self) -> None:
        """Make the missing measurements. Raises the error that ends the execution early."""
        planned = {"measurements": self.record.planned, "done": self.record.done}
        logger.info("comparison begins", extra={FIELDS: planned})
        record, before = self.record, throttling()
        if not record.host:
            reports = await self.work.context.catalogue.reports(self.request.workload)
            record.host = await asyncio.to_thread(
                machine.host_facts, reports, self.request.workload
            )
        throttled_before = record.host["throttled_seconds"] or 0.0
        measure = Measuring(self.work, self.host, record, self.plans)
        await self._save()
        seed = self.work.task.task_id
        loop = ComparisonLoop(record, seed, measure, self._save, time.monotonic)
        try:
            await loop.run()
        finally:
            record.host["load_after"] = machine.load_average()
            held_back = machine.throttled_since(before)
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
        # The budget left no room for the missing rounds, so lower the task's total.
        shard, shards = self.work.shard, self.work.context.store.shards
        await self.work.call(shards.count_items, shard.ref, shard.attempt, record.done)

    async def _save(self) -> None:
        if self.work.active.is_cancelled:
            raise RunCancelledError
        await self.work.call(self._store)

    def _store(self) -> None:
        """Store the record. Blocks; call it only between measurements."""
        record, shards = self.record, self.work.context.store.shards
        ref, attempt = self.work.shard.ref, self.work.shard.attempt
        if record.planned != self.work.shard.count:
            shards.count_items(ref, attempt, record.planned)
        shards.add_results(ref, attempt, [], record.done, 0, record.to_json())

    def _check_parity(self) -> None:
        """Compare `python` with the compiled kernels by the workload's parity bound. Blocks."""
        record, python = self.record, REFERENCE
        compiled = [kernel for kernel in sorted(record.rows) if kernel != python]
        stages = next((plan.stages for plan in self.plans.values()), ())
        if python not in record.rows or not compiled:
            return
        if any(stage.source != "simulated" for stage in stages):
            return  # only the run host knows the values that a real source gave
        plan = next(iter(self.plans.values()))
        workload = get_workload(plan.workload)
        dtypes = {column.name: column.dtype for column in workload.columns_out}
        record.parity_faults = []
        for kernel in compiled:
            count = min(record.sample_rows(python), record.sample_rows(kernel))
            inputs: Columns = {}
            # A user's code is not here that may make up values; its outputs declare no magnitude.
            if any(column.magnitude is not None for column in workload.columns_out):
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
