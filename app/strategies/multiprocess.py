"""Batches in worker processes: two strategies that differ in the pool they stand on."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult, Capabilities, Plan
from hotloop.app.strategies.batching import iter_batches, run_windowed, window_size
from hotloop.app.strategies.in_flight import InFlight, StepCount
from hotloop.app.strategies.pools import Pools
from hotloop.app.strategies.process_pool import ProcessPool, run_batch_in_pool

CAPABILITIES = Capabilities(
    parallel=True,
    shares_memory=False,
    needs_gil_release=False,
    overlaps_io=False,
    cancellable="after the batches in work if they end within half a second, else by killing "
    "the worker processes",
)


class _InProcesses:
    capabilities = CAPABILITIES

    def __init__(self, pools: Pools, pool: ProcessPool) -> None:
        self.in_flight = InFlight()
        self._pools = pools
        self._pool = pool

    async def prepare(self, plan: Plan) -> int:
        return await self._pools.ensure_processes(self._pool, plan)

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        window = window_size(self._pools.process_workers(plan))

        self.in_flight.begin(lambda: self._pool.words)

        async def submit(batch: Batch, _: StepCount) -> BatchResult:
            return await run_batch_in_pool(self._pool, plan, batch)

        batches = iter_batches(plan)
        try:
            async with aclosing(
                run_windowed(batches, submit, window, threading.Event(), self.in_flight)
            ) as results:
                async for result in results:
                    yield result
        finally:
            await self._pool.finish_or_discard()

    def worker_pids(self, plan: Plan) -> list[int]:
        return self._pools.pids(self._pool)

    async def close(self) -> None:
        """The pool belongs to the run host."""


class Multiprocessing(_InProcesses):
    """On `multiprocessing.Pool`: I/O and kernel in the worker processes."""

    name = StrategyName.MULTIPROCESSING

    def __init__(self, pools: Pools) -> None:
        super().__init__(pools, pools.multiprocessing)


class ConcurrentFutures(_InProcesses):
    """On `ProcessPoolExecutor`: I/O and kernel in the worker processes, a future a batch."""

    name = StrategyName.CONCURRENT_FUTURES

    def __init__(self, pools: Pools) -> None:
        super().__init__(pools, pools.executor)
