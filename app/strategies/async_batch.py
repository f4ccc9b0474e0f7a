"""The I/O of a whole batch at once, then its kernel call, batch after batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch, ItemBatch
from hotloop.app.strategies.base import BatchResult, Capabilities, Plan
from hotloop.app.strategies.batching import iter_batches, run_windowed
from hotloop.app.strategies.in_flight import InFlight, StepCount
from hotloop.app.strategies.pools import Pools
from hotloop.app.strategies.thread_pool import ThreadPool
from hotloop.app.strategies.worker import compute_batch, fetch_group_async, fetcher_count, groups

CAPABILITIES = Capabilities(
    parallel=False,
    shares_memory=True,
    needs_gil_release=False,
    overlaps_io=True,
    cancellable="at once while it waits for I/O, else after the batch in work",
)


class AsyncBatch:
    """On asyncio: up to `io_concurrency` items of the batch wait at the same time; the batch is
    computed in a thread beside the loop; the next batch starts when this one is done.
    """

    name = StrategyName.ASYNC_BATCH
    capabilities = CAPABILITIES

    def __init__(self, pools: Pools) -> None:
        self.in_flight = InFlight()
        self._thread = ThreadPool()

    async def prepare(self, plan: Plan) -> int:
        self._thread.ensure(1)
        return 1

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        self.in_flight.begin()

        async def submit(batch: Batch, steps: StepCount) -> BatchResult:
            inputs = await self._thread.submit(
                plan.items.load, plan.workload, batch.start, batch.count
            )
            started = time.perf_counter()
            if plan.stages:
                await _fetch_all(plan, inputs, steps)
            io_seconds = time.perf_counter() - started if plan.stages else 0.0
            return await self._thread.submit(compute_batch, plan, batch, inputs, io_seconds, steps)

        async with aclosing(
            run_windowed(iter_batches(plan), submit, 1, threading.Event(), self.in_flight)
        ) as results:
            async for result in results:
                yield result

    def worker_pids(self, plan: Plan) -> list[int]:
        return []

    async def close(self) -> None:
        self._thread.close()


async def _fetch_all(plan: Plan, inputs: ItemBatch, steps: StepCount) -> None:
    waiting = groups(len(inputs.item_ids), plan.group_size)

    async def fetch_next() -> None:
        for positions in waiting:
            await fetch_group_async(plan.stages, inputs, positions, steps)

    async with asyncio.TaskGroup() as fetchers:
        for _ in range(fetcher_count(plan, len(inputs.item_ids))):
            fetchers.create_task(fetch_next())
