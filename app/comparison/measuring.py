"""Executes a cell on the comparison's run host, and makes a Sample of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from hotloop.app.comparison.equality import prefixes
from hotloop.app.comparison.projection import sized
from hotloop.app.comparison.record import (
    BACKGROUND,
    CellId,
    CellRecord,
    ComparisonRecord,
    Sample,
    Size,
)
from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import RunCancelledError, ServiceError
from hotloop.app.execution.context import Work
from hotloop.app.execution.run_body import RunCollector
from hotloop.app.names import TaskStatus
from hotloop.app.observability.tracing import RunSpan, measurement_span
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.runhost.messages import Batches, RunReport, RunStarted
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.base import BatchResult, Plan
from hotloop.app.strategies.checksum import MODULUS, checksum_text, rows_checksum
from hotloop.app.system import throttling
from hotloop.app.tasks.acceptance import begun_part
from hotloop.app.tasks.model import Shard

SAMPLE_ROWS: Final = 8
"""Number of rows of each kernel that are kept to compare `python` with the compiled kernels."""


class Outputs:
    """Checksums, failed items and first rows of an execution."""

    def __init__(self, wanted: list[int]) -> None:
        """`wanted` are the numbers of first items over which to compute checksums."""
        self.failed_items = 0
        self.rows: dict[str, list[Any]] = {}
        self._sums = dict.fromkeys(wanted, 0)

    def add(self, result: BatchResult) -> None:
        """Add a batch; batches may come in any order."""
        start, count = result.batch.start, result.batch.count
        self.failed_items += int(np.count_nonzero(result.failed))
        for items in self._sums:
            part = min(items - start, count)
            if part >= count:
                added = result.checksum
            elif part > 0:
                good = ~result.failed[:part]
                columns = {name: values[:part][good] for name, values in result.columns.items()}
                added = rows_checksum(result.item_ids[:part][good], columns)
            else:
                continue
            self._sums[items] = (self._sums[items] + added) % MODULUS
        if start == 0 and not result.failed[:SAMPLE_ROWS].any():
            self.rows = {
                name: [_for_json(value) for value in values[:SAMPLE_ROWS].tolist()]
                for name, values in result.columns.items()
            }

    @property
    def sample_rows(self) -> int:
        return len(next(iter(self.rows.values()), ()))

    def checksums(self) -> dict[str, str]:
        return {str(items): checksum_text(total) for items, total in self._sums.items()}


def _for_json(value: Any) -> Any:
    """Return a value as JSON can hold it; numpy reads the text as the same float."""
    return value if math.isfinite(value) else repr(value)


@dataclass(slots=True)
class HostLease:
    """The run host that a comparison holds, replaced if it dies."""

    work: Work
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _client: RunHostClient | None = None

    async def client(self) -> RunHostClient:
        """Return the run host, leasing it if needed. Raises TooBusyError, NotReadyError."""
        if self._client is not None and self._client.alive:
            return self._client
        # A comparison that had a run host keeps its place in the line.
        had_place = self._client is not None
        await self.close()
        lease = self.work.lease(has_place=had_place)
        self._client = await self._stack.enter_async_context(lease)
        return self._client

    async def close(self) -> None:
        """Give the run host back."""
        await self._stack.aclose()
        self._stack = AsyncExitStack()


@dataclass(slots=True)
class Measuring:
    """Executes cells; it is the `Measure` of a ComparisonLoop."""

    work: Work
    host: HostLease
    record: ComparisonRecord
    plans: Mapping[CellId, Plan]

    async def __call__(
        self,
        cell: CellRecord,
        size: Size,
        round_number: int,
        *,
        cold: bool,
        timeout_seconds: float | None,
    ) -> Sample:
        client = await self.host.client()
        plan = sized(self.plans[cell.cell], size)
        plan = replace(plan, timeout_seconds=_least(plan.timeout_seconds, timeout_seconds))
        plan = self.work.context.memory.bounded(plan)
        wanted = [n for n in prefixes(self.record, cell.cell.kernel) if n <= size.items]
        outputs = Outputs(wanted)
        hosts, throttled = self.work.context.hosts, throttling()
        before, busy_before = hosts.leases, hosts.busy_count
        started = time.perf_counter()
        with (
            self.work.context.lag.recording() as lag,
            measurement_span(plan, str(cell.cell), round_number) as (span, named),
        ):
            if cell.cell.strategy == BACKGROUND:
                measured, seconds = await self._stored(client, named, outputs, cold, span)
            else:
                measured = await self._executed(client, named, outputs, cold, span)
                seconds = measured.duration_seconds or 0.0
        wall_seconds = time.perf_counter() - started
        summary, after = lag.summary(), throttling()
        if outputs.sample_rows > self.record.sample_rows(cell.cell.kernel):
            self.record.rows[cell.cell.kernel] = outputs.rows
        return Sample.of(
            measured,
            round=round_number,
            items=size.items,
            scale=cell.scale(size),
            seconds=seconds,
            wall_seconds=wall_seconds,
            lag_p99_ms=None if summary is None else summary.p99,
            throttled_seconds=None if after is None else after.seconds_since(throttled),
            throttled_periods=0 if after is None else after.periods_since(throttled),
            disturbed=hosts.leases != before or busy_before > 1 or hosts.busy_count > 1,
            failed_items=outputs.failed_items,
            checksums=outputs.checksums(),
        )

    async def _executed(
        self, client: RunHostClient, plan: Plan, outputs: Outputs, cold: bool, span: RunSpan
    ) -> Measurements:
        async def add(event: Batches) -> None:
            span.batches(event)
            for result in event.results:
                outputs.add(result)
                for stage in plan.stages:
                    if stage.name in result.counts:
                        self.work.context.sources.count(stage.source, result.counts[stage.name])

        return await self._run(client, plan, cold, add, None)

    async def _stored(
        self, client: RunHostClient, plan: Plan, outputs: Outputs, cold: bool, span: RunSpan
    ) -> tuple[Measurements, float]:
        """Execute and store a temporary task; time it from its acceptance to its stored end."""
        started = time.perf_counter()
        store = self.work.context.store
        async with self._part(plan) as shard:
            collector = RunCollector(plan, shard, store.shards, self.work.context.sources)

            async def add(event: Batches) -> None:
                span.batches(event)
                await in_store_thread(collector.add, event)
                for result in event.results:
                    outputs.add(result)

            measured = await self._run(client, plan, cold, add, collector)
            collector.measured = measured
            await in_store_thread(
                store.shards.end,
                shard.ref,
                shard.attempt,
                TaskStatus.COMPLETED,
                collector.to_json(),
                collector.items_processed,
                lambda _: {},
            )
            seconds = time.perf_counter() - started
        return measured, max(0.0, seconds - (measured.setup_seconds or 0.0))

    async def _run(
        self,
        client: RunHostClient,
        plan: Plan,
        cold: bool,
        add: Callable[[Batches], Any],
        collector: RunCollector | None,
    ) -> Measurements:
        """Execute the plan. Raises its error if it did not complete."""
        if self.work.active.is_cancelled:
            raise RunCancelledError
        report: RunReport | None = None
        error: ServiceError | None = None
        self.work.active.begins_on(client)
        try:
            async with aclosing(client.run(plan, cold=cold)) as events:
                async for event in events:
                    if isinstance(event, Batches):
                        await add(event)
                    elif isinstance(event, BreakerReport):
                        self.work.context.sources.note(event)
                    elif isinstance(event, RunReport):
                        report, error = event, event.error
                    elif isinstance(event, RunStarted) and collector is not None:
                        collector.start(event)
        finally:
            self.work.active.ends()
        if error is not None:
            raise error
        assert report is not None
        return report.measured

    def _part(self, plan: Plan) -> AbstractAsyncContextManager[Shard]:
        """Make a temporary task that has begun, and delete it when the block ends."""
        names = plan.workload, plan.kernel, plan.strategy
        context, owner = self.work.context, self.work.task.client
        return begun_part(context.store, context.node, plan.item_count, *names, owner)


def _least(*bounds: float | None) -> float | None:
    return min((bound for bound in bounds if bound is not None), default=None)
