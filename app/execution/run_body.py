"""The body of runs: executes a plan on a run host, and stores results and progress as they come, in
one transaction each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import aclosing, nullcontext, suppress
from dataclasses import asdict, replace
from typing import Any, Final

from hotloop.app.check.storage import Certificates
from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import ServiceError, StoreError, UnreadableTaskError
from hotloop.app.execution.batch_seconds import run_batch_seconds
from hotloop.app.execution.context import Once, Outcome, RunContext, Work
from hotloop.app.execution.items import items_of
from hotloop.app.execution.presenters import stored_result
from hotloop.app.execution.specs import check_code, request_of
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.names import StrategyName
from hotloop.app.observability.health import SourceMonitor
from hotloop.app.observability.metrics import Metrics
from hotloop.app.observability.tracing import RunSpan, run_span
from hotloop.app.prediction.plan import make_plan
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.measurements import KEPT_ERRORS, LagSummary, Measurements
from hotloop.app.runhost.messages import Batches, Progress, RunStarted
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.sources.base import ItemError, Items, StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.checksum import MODULUS
from hotloop.app.tasks.chunks import Chunk, pack, result_columns
from hotloop.app.tasks.model import FINISHED, InWork, Shard, Task, run_seconds
from hotloop.app.tasks.shards import ShardStore
from hotloop.app.tasks.store import TaskStore

logger = logging.getLogger(__name__)

STORE_SECONDS: Final = 0.75
"""Time since the last write after which progress within batches is stored by itself."""


class RunCollector:
    """Collects a run's events. `add` and `store_progress` block on the store: call them in threads,
    one after another. If a caller gave up waiting, its call may still run; the next one waits.
    """

    def __init__(
        self, plan: Plan, shard: Shard, shards: ShardStore, sources: SourceMonitor
    ) -> None:
        """`shard` is the row from when this execution began, which continues from its counts."""
        self.measured: Measurements | None = None
        """Measurements of the run host; None until it reports them."""
        self.lag: LagSummary | None = None
        self.items_processed = shard.items_processed
        self.failed_items = shard.failed_items
        self._before = Measurements.from_json(shard.details)
        self._shard = shard
        self._shards = shards
        self._batch_size = plan.batch_size
        self._sources = sources
        self._columns = result_columns(plan.workload)
        self._stages = {stage.name: (stage.source, StageCounts()) for stage in plan.stages}
        self._setup: Measurements | None = None
        self._started = time.perf_counter()
        self._checksum = 0
        self._io_seconds = 0.0
        self._errors: list[ItemError] = []
        self._items_passed = 0
        self._stored = float("-inf")
        self._storing = threading.Lock()
        self._added: Batches | None = None

    def start(self, event: RunStarted) -> None:
        self._setup = event.measured
        self._started = time.perf_counter()

    def add(self, event: Batches) -> None:
        """Store results and progress in one transaction. Raises StoreError, and TaskConflictError
        if this execution has lost its shard; then nothing has changed here, and the call may be
        repeated.
        """
        with self._storing:
            if event is not self._added:  # else an abandoned call has stored it
                self._add(event)
                self._added = event

    def _add(self, event: Batches) -> None:
        processed = self.items_processed + sum(r.batch.count for r in event.results)
        failed = self.failed_items + sum(len(r.errors) for r in event.results)
        chunks = pack(event.results, self._columns)
        counts = self._counts_with(event)
        before = self._checksum, self._io_seconds, len(self._errors)
        for result in event.results:
            self._checksum = (self._checksum + result.checksum) % MODULUS
            self._io_seconds += result.io_seconds
            room = KEPT_ERRORS - len(self._errors)
            self._errors.extend(result.errors[:room])
        try:
            self._store(chunks, processed, failed, counts)
        except BaseException:
            self._checksum, self._io_seconds, kept = before
            del self._errors[kept:]
            raise
        self.items_processed, self.failed_items, self._stages = processed, failed, counts
        for result in event.results:
            for name, used in result.counts.items():
                self._sources.count(self._stages[name][0], used)

    def note(self, event: Progress) -> bool:
        """Take the progress within batches. Return True if it should be stored now."""
        self._items_passed = self._shard.items_processed + event.items_passed
        return time.perf_counter() - self._stored >= STORE_SECONDS

    def store_progress(self) -> None:
        """Store the run's progress. Raises the errors of `add`."""
        with self._storing:
            self._store([], self.items_processed, self.failed_items, self._stages)

    def _store(
        self,
        chunks: Sequence[Chunk],
        processed: int,
        failed: int,
        stages: dict[str, tuple[str, StageCounts]],
    ) -> None:
        details = self._before.plus(self._so_far(stages)).to_json()
        if self._items_passed > processed:
            in_work = InWork(self._shard.attempt, self._items_passed)
            details["in_work"] = asdict(in_work)
        self._shards.add_results(
            self._shard.ref, self._shard.attempt, chunks, processed, failed, details
        )
        self._stored = time.perf_counter()

    def _counts_with(self, event: Batches) -> dict[str, tuple[str, StageCounts]]:
        sums = {name: (source, replace(counts)) for name, (source, counts) in self._stages.items()}
        for result in event.results:
            for name, used in result.counts.items():
                sums[name][1].add(used)
        return sums

    def _so_far(self, stages: dict[str, tuple[str, StageCounts]]) -> Measurements:
        """Return the measurements of this execution that this process made itself."""
        taken = time.perf_counter() - self._started if self._setup else None
        return replace(
            self._setup or Measurements(),
            checksum=self._checksum,
            errors=tuple(self._errors),
            stages=stages,
            io_seconds=self._io_seconds,
            duration_seconds=taken,
            batch_size=self._batch_size,
        )

    def measurements(self) -> Measurements:
        """Return the measurements of all executions so far; if the run host died, those that this
        process made itself.
        """
        mine = self._so_far(self._stages)
        if self.measured is not None:
            mine = replace(
                self.measured,
                checksum=mine.checksum,
                errors=mine.errors,
                stages=mine.stages,
                batch_size=mine.batch_size,
            )
        return self._before.plus(replace(mine, event_loop_lag_ms=self.lag))

    @property
    def duration_seconds(self) -> float | None:
        return self.measurements().duration_seconds

    def to_json(self) -> dict[str, Any]:
        return self.measurements().to_json()


class RunBody:
    """The Body of runs. Their results carry marks of `certificates`, if it is given."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        self._certificates = certificates

    async def execute(self, work: Work) -> None:
        context, shard = work.context, work.shard
        check_code(work.task)
        rows = (shard.start, shard.count) if work.has_begun else None
        given = work.policy.items if isinstance(work.policy, Once) else None
        async with (
            work.lease() as client,
            nullcontext(given) if given else items_of(context, client, work.task, rows) as items,
        ):
            # Plan first: a run that is refused here leaves no trace.
            plan = context.memory.bounded(await self._plan(work, items))
            await work.begin(items.count)
            work.active.begins_on(client)
            try:
                await self._run(work, client, plan)
            finally:
                work.active.ends()

    async def _plan(self, work: Work, items: Items) -> Plan:
        if isinstance(work.policy, Once) and work.policy.plan is not None:
            return await work.policy.plan(items)
        context, task, shard = work.context, work.task, work.shard
        check_code(task)
        before, request = Measurements.from_json(shard.details), request_of(task.spec, RunRequest)
        asked = request.workload, request.parameters
        reports = await context.catalogue.reports(*asked)
        # The items of an upload are counted by its first execution.
        count = shard.count if items.count == task.total_items else items.count
        missing = [(shard.start, count)]
        if shard.items_processed:
            missing = await in_store_thread(context.store.shards.missing, shard.ref)
        known, settings = await context.calibrations.known(*asked), context.settings
        check_code(task)
        if before.batch_size is not None:  # stored results are numbered by this batch size
            request = request.model_copy(update={"batch_size": before.batch_size})
        strategy, ranges = StrategyName(task.strategy), tuple(missing)
        plan = make_plan(strategy, request, items, reports, known, settings, ranges)
        context.memory.check(plan)  # another node may have accepted it, or items were unknown
        return plan

    async def _run(self, work: Work, client: RunHostClient, plan: Plan) -> None:
        context, shard = work.context, work.shard
        names = {"strategy": plan.strategy, "kernel": plan.kernel, "items": plan.item_count}
        with run_span(plan, shard) as (span, named), context.lag.recording() as lag:
            logger.info("run begins", extra={FIELDS: names | {"run_host": client.pid}})
            collector = RunCollector(named, shard, context.store.shards, context.sources)
            work.record = collector
            try:
                await self._collect(work, client, named, collector, span)
            finally:
                collector.lag = lag.summary()

    async def _collect(
        self,
        work: Work,
        client: RunHostClient,
        plan: Plan,
        collector: RunCollector,
        span: RunSpan,
    ) -> None:
        error: ServiceError | None = None
        async with aclosing(client.run(plan)) as events:
            async for event in events:
                if isinstance(event, RunStarted):
                    collector.start(event)
                elif isinstance(event, Batches):
                    span.batches(event)
                    await work.call(collector.add, event)
                elif isinstance(event, Progress):
                    if collector.note(event):
                        with suppress(StoreError):  # an outage is no reason to end the run
                            await in_store_thread(collector.store_progress)
                elif isinstance(event, BreakerReport):
                    work.context.sources.note(event)
                else:
                    collector.measured, error = event.measured, event.error
        if error is not None:
            raise error

    async def batch_seconds(self, context: RunContext, task: Task, shard: Shard) -> float:
        return await run_batch_seconds(context, task, shard)

    def summarize(self, shards: Sequence[Shard]) -> dict[str, Any]:
        """Add up the measurements of a task's shards, as JSON. Leave out unreadable shards, so that
        the task can end.
        """
        total = Measurements()
        for shard in shards:
            with suppress(UnreadableTaskError):
                total = total.plus(Measurements.from_json(shard.details))
        # In the order of items, independent of which shard ended first.
        errors = sorted(total.errors, key=lambda error: error.item_id)
        return replace(total, errors=tuple(errors)).to_json()

    def count_end(self, metrics: Metrics, task: Task, shard: Shard, outcome: Outcome) -> None:
        metrics.run_ended(
            task.workload,
            StrategyName(task.strategy),
            task.kernel,
            outcome.status,
            outcome.items_processed - shard.items_processed,
            outcome.failed_items - shard.failed_items,
            outcome.duration_seconds,
        )

    def duration_seconds(self, task: Task, shards: Sequence[Shard]) -> float | None:
        return run_seconds(task, shards)

    def view(self, store: TaskStore, task: Task, shards: Sequence[Shard]) -> dict[str, Any]:
        if task.status not in FINISHED:
            return {"result": None}
        return {"result": stored_result(store, self._certificates, task, shards)}
