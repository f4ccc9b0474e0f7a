"""One item after another: the baseline."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing

from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult, Capabilities, Plan
from hotloop.app.strategies.batching import iter_batches, run_windowed
from hotloop.app.strategies.in_flight import InFlight, StepCount
from hotloop.app.strategies.pools import Pools
from hotloop.app.strategies.thread_pool import ThreadPool
from hotloop.app.strategies.worker import run_batch_item_by_item

CAPABILITIES = Capabilities(
    parallel=False,
    shares_memory=True,
    needs_gil_release=False,
    overlaps_io=False,
    cancellable="at the next item while it waits for I/O, else after the batch in work",
)


class Sequential:
    """Waits for an item, computes it, goes on to the next; in one thread beside the run host's
    event loop, which has nothing to do meanwhile. Without I/O a batch is one kernel call.
    """

    name = StrategyName.SEQUENTIAL
    capabilities = CAPABILITIES

    def __init__(self, pools: Pools) -> None:
        self.in_flight = InFlight()
        self._thread = ThreadPool()

    async def prepare(self, plan: Plan) -> int:
        self._thread.ensure(1)
        return 1

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        stop = threading.Event()

        self.in_flight.begin()

        async def submit(batch: Batch, steps: StepCount) -> BatchResult:
            return await self._thread.submit(run_batch_item_by_item, plan, batch, stop, steps)

        batches = iter_batches(plan)
        async with aclosing(run_windowed(batches, submit, 1, stop, self.in_flight)) as results:
            async for result in results:
                yield result

    def worker_pids(self, plan: Plan) -> list[int]:
        return []

    async def close(self) -> None:
        self._thread.close()
