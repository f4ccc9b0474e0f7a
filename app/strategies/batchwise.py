"""The strategies that execute batch after batch, each batch by one call: `sequential`, `threading`,
`async-batch`, `multiprocessing` and `concurrent-futures`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch, ItemBatch
from hotloop.app.strategies import worker
from hotloop.app.strategies.base import BatchResult, Capabilities, InFlight, Plan, StepCount, Words
from hotloop.app.strategies.batching import iter_batches, run_windowed, window_size
from hotloop.app.strategies.pools import Pools, ThreadPool, effective_workers
from hotloop.app.strategies.process_pool import ProcessPool, run_batch_in_pool


class _Batchwise:
    """Keeps a bounded number of batches in flight; each strategy executes a batch in its way."""

    name: StrategyName
    capabilities: Capabilities

    def __init__(self) -> None:
        self.in_flight = InFlight()

    def _window(self, plan: Plan) -> int:
        """Return the number of batches in flight."""
        raise NotImplementedError

    async def _execute(
        self, plan: Plan, batch: Batch, stop: threading.Event, steps: StepCount
    ) -> BatchResult:
        raise NotImplementedError

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        stop = threading.Event()
        window = self._window(plan)
        self.in_flight.begin(self._words)

        async def submit(batch: Batch, steps: StepCount) -> BatchResult:
            return await self._execute(plan, batch, stop, steps)

        try:
            async with aclosing(
                run_windowed(iter_batches(plan), submit, window, stop, self.in_flight)
            ) as results:
                async for result in results:
                    yield result
        finally:
            await self._after_run()

    def _words(self) -> Words:
        """Return the memory in which worker processes count their steps."""
        return []

    async def _after_run(self) -> None:
        """Wait until nothing of the run is executing any more."""

    def worker_pids(self, plan: Plan) -> list[int]:
        return []

    async def close(self) -> None:
        """Do nothing more: the pools belong to the run host."""


class _InOneThread(_Batchwise):
    """Executes a batch at a time, in a thread beside the run host's event loop."""

    def __init__(self, pools: Pools) -> None:
        super().__init__()
        self._thread = ThreadPool()

    async def prepare(self, plan: Plan) -> int:
        self._thread.ensure(1)
        return 1

    def _window(self, plan: Plan) -> int:
        return 1

    async def close(self) -> None:
        self._thread.close()


class Sequential(_InOneThread):
    """The baseline: waits for an item, computes it, and goes on to the next, in one thread. Without
    I/O a batch is one kernel call.
    """

    name = StrategyName.SEQUENTIAL
    capabilities = Capabilities(
        parallel=False,
        shares_memory=True,
        needs_gil_release=False,
        overlaps_io=False,
        cancellable="at the next item while it waits for I/O, else after the batch in work",
    )

    async def _execute(
        self, plan: Plan, batch: Batch, stop: threading.Event, steps: StepCount
    ) -> BatchResult:
        return await self._thread.submit(worker.run_batch_item_by_item, plan, batch, stop, steps)


class AsyncBatch(_InOneThread):
    """The I/O of a whole batch at once on asyncio, with up to `io_concurrency` items in flight, and
    then its kernel call in a thread. The next batch starts when this one is done.
    """

    name = StrategyName.ASYNC_BATCH
    capabilities = Capabilities(
        parallel=False,
        shares_memory=True,
        needs_gil_release=False,
        overlaps_io=True,
        cancellable="at once while it waits for I/O, else after the batch in work",
    )

    async def _execute(
        self, plan: Plan, batch: Batch, stop: threading.Event, steps: StepCount
    ) -> BatchResult:
        inputs = await self._thread.submit(plan.items.load, plan.workload, batch.start, batch.count)
        started = time.perf_counter()
        if plan.stages:
            await _fetch_all(plan, inputs, steps)
        io_seconds = time.perf_counter() - started if plan.stages else 0.0
        return await self._thread.submit(
            worker.compute_batch, plan, batch, inputs, io_seconds, steps
        )


async def _fetch_all(plan: Plan, inputs: ItemBatch, steps: StepCount) -> None:
    waiting = worker.groups(len(inputs.item_ids), plan.group_size)

    async def fetch_next() -> None:
        for positions in waiting:
            await worker.fetch_group_async(plan.stages, inputs, positions, steps)

    async with asyncio.TaskGroup() as fetchers:
        for _ in range(worker.fetcher_count(plan, len(inputs.item_ids))):
            fetchers.create_task(fetch_next())


class Threading(_Batchwise):
    """I/O and kernel in the threads of a `ThreadPoolExecutor`."""

    name = StrategyName.THREADING
    capabilities = Capabilities(
        parallel=True,
        shares_memory=True,
        needs_gil_release=True,
        overlaps_io=False,
        cancellable="at the next item while it waits for I/O, else after the batches in work",
    )

    def __init__(self, pools: Pools) -> None:
        super().__init__()
        self._pools = pools

    async def prepare(self, plan: Plan) -> int:
        workers = self._pools.thread_workers(plan)
        self._pools.threads.ensure(workers)
        return effective_workers(plan, workers)

    def _window(self, plan: Plan) -> int:
        return window_size(self._pools.thread_workers(plan))

    async def _execute(
        self, plan: Plan, batch: Batch, stop: threading.Event, steps: StepCount
    ) -> BatchResult:
        return await self._pools.threads.submit(worker.run_batch, plan, batch, stop, steps)


class _InProcesses(_Batchwise):
    """I/O and kernel in worker processes."""

    capabilities = Capabilities(
        parallel=True,
        shares_memory=False,
        needs_gil_release=False,
        overlaps_io=False,
        cancellable="after the batches in work if they end within half a second, else by killing "
        "the worker processes",
    )

    def __init__(self, pools: Pools, pool: ProcessPool) -> None:
        super().__init__()
        self._pools = pools
        self._pool = pool

    async def prepare(self, plan: Plan) -> int:
        return await self._pools.ensure_processes(self._pool, plan)

    def _window(self, plan: Plan) -> int:
        return window_size(self._pools.process_workers(plan))

    def _words(self) -> Words:
        return self._pool.words

    async def _execute(
        self, plan: Plan, batch: Batch, stop: threading.Event, steps: StepCount
    ) -> BatchResult:
        return await run_batch_in_pool(self._pool, plan, batch)

    async def _after_run(self) -> None:
        await self._pool.finish_or_discard()

    def worker_pids(self, plan: Plan) -> list[int]:
        return self._pool.tree_pids


class Multiprocessing(_InProcesses):
    """Worker processes of a `multiprocessing.Pool`."""

    name = StrategyName.MULTIPROCESSING

    def __init__(self, pools: Pools) -> None:
        super().__init__(pools, pools.multiprocessing)


class ConcurrentFutures(_InProcesses):
    """Worker processes of a `ProcessPoolExecutor`, with a future for each batch."""

    name = StrategyName.CONCURRENT_FUTURES

    def __init__(self, pools: Pools) -> None:
        super().__init__(pools, pools.executor)
