"""Batches in worker threads."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult, Capabilities, Plan
from hotloop.app.strategies.batching import iter_batches, run_windowed, window_size
from hotloop.app.strategies.in_flight import InFlight, StepCount
from hotloop.app.strategies.pools import Pools, effective_workers
from hotloop.app.strategies.worker import run_batch

CAPABILITIES = Capabilities(
    parallel=True,
    shares_memory=True,
    needs_gil_release=True,
    overlaps_io=False,
    cancellable="at the next item while it waits for I/O, else after the batches in work",
)


class Threading:
    """On `ThreadPoolExecutor`: I/O and kernel in the worker threads."""

    name = StrategyName.THREADING
    capabilities = CAPABILITIES

    def __init__(self, pools: Pools) -> None:
        self.in_flight = InFlight()
        self._pools = pools

    async def prepare(self, plan: Plan) -> int:
        workers = self._pools.thread_workers(plan)
        self._pools.threads.ensure(workers)
        return effective_workers(plan, workers)

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        stop = threading.Event()
        window = window_size(self._pools.thread_workers(plan))

        self.in_flight.begin()

        async def submit(batch: Batch, steps: StepCount) -> BatchResult:
            return await self._pools.threads.submit(run_batch, plan, batch, stop, steps)

        batches = iter_batches(plan)
        async with aclosing(run_windowed(batches, submit, window, stop, self.in_flight)) as results:
            async for result in results:
                yield result

    def worker_pids(self, plan: Plan) -> list[int]:
        return []

    async def close(self) -> None:
        """The pool belongs to the run host."""
