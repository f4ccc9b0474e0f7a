"""I/O and kernels overlapped: a sliding window of items in flight feeds the workers.

    items ──> opener ──> fetchers (io_concurrency items)  ────> workers ──> results
                ^         each: next group, wait, again;                        │
                │         the last group of a batch sends it to the workers     │
                └──── waits while `open_batches` batches have not been taken ───┘

The opener and the fetchers share one Feed on the event loop. A batch belongs to the Feed until its
last item has arrived, and then to the worker that computes it. Results pass through one queue, and
the place of a batch is free again when its result was taken. So a slow consumer stops the workers,
and slow workers stop the I/O.

The opener keeps as many items loaded ahead as may be in flight, at least one batch, and starts
fetchers when it has opened one; a fetcher that finds no group ends. So no item waits for a load,
and nothing waits for a lock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch, ItemBatch
from hotloop.app.strategies.base import BatchResult, Capabilities, InFlight, Plan, StepCount
from hotloop.app.strategies.batching import cancel_and_wait, iter_batches, run_windowed, window_size
from hotloop.app.strategies.pools import Pools, effective_workers
from hotloop.app.strategies.process_pool import run_batch_in_pool, run_in_pool
from hotloop.app.strategies.worker import compute_batch, fetch_group_async, fetcher_count, run_batch

Compute = Callable[["_OpenBatch", float], Coroutine[Any, Any, BatchResult]]


class Hybrid:
    """I/O on asyncio, kernels in the pool of `threading` (for kernels that release the GIL) or of
    `concurrent-futures` (for those that do not).
    """

    name = StrategyName.HYBRID
    capabilities = Capabilities(
        parallel=True,
        shares_memory=False,
        needs_gil_release=False,
        overlaps_io=True,
        cancellable="at once while items wait for I/O; batches in work end, or their worker "
        "processes are killed after half a second",
    )

    def __init__(self, pools: Pools) -> None:
        self.in_flight = InFlight()
        self._pools = pools

    async def prepare(self, plan: Plan) -> int:
        if not _uses_threads(plan):
            return await self._pools.ensure_processes(self._pools.executor, plan)
        workers = self._workers(plan)
        self._pools.threads.ensure(workers)
        return effective_workers(plan, workers)

    def _workers(self, plan: Plan) -> int:
        if _uses_threads(plan):
            return self._pools.thread_workers(plan)
        return self._pools.process_workers(plan)

    async def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]:
        window = window_size(self._workers(plan))
        if _uses_threads(plan):
            self.in_flight.begin()
        else:
            self.in_flight.begin(lambda: self._pools.executor.words)
        results = self._run_with_io(plan, window) if plan.stages else self._run(plan, window)
        try:
            async with aclosing(results):
                async for result in results:
                    yield result
        finally:
            if not _uses_threads(plan):
                await self._pools.executor.finish_or_discard()

    def _run(self, plan: Plan, window: int) -> AsyncGenerator[BatchResult, None]:
        stop = threading.Event()

        async def submit(batch: Batch, steps: StepCount) -> BatchResult:
            if _uses_threads(plan):
                return await self._pools.threads.submit(run_batch, plan, batch, stop, steps)
            return await run_batch_in_pool(self._pools.executor, plan, batch)

        return run_windowed(iter_batches(plan), submit, window, stop, self.in_flight)

    async def _run_with_io(self, plan: Plan, window: int) -> AsyncGenerator[BatchResult, None]:
        async def compute(opened: _OpenBatch, io_seconds: float) -> BatchResult:
            args = (plan, opened.batch, opened.inputs, io_seconds)
            if _uses_threads(plan):
                return await self._pools.threads.submit(compute_batch, *args, opened.steps)
            pool = self._pools.executor
            return await run_in_pool(pool, plan, opened.batch, compute_batch, *args)

        feed = _Feed(plan, compute, window, self.in_flight)
        try:
            for _ in iter_batches(plan):
                result = await feed.take()
                self.in_flight.leave(result.batch)
                yield result
        finally:
            await cancel_and_wait(feed.tasks)

    def worker_pids(self, plan: Plan) -> list[int]:
        return [] if _uses_threads(plan) else self._pools.executor.tree_pids

    async def close(self) -> None:
        """Do nothing: the pools belong to the run host."""


def _uses_threads(plan: Plan) -> bool:
    return kernels.releases_gil(plan.workload, plan.kernel)


@dataclass(slots=True)
class _OpenBatch:
    """A batch whose items are arriving."""

    batch: Batch
    inputs: ItemBatch
    steps: StepCount
    given: int
    """Items that a fetcher has taken."""
    missing: int
    """Items that have not arrived."""


LEAST_AHEAD: Final = 2
"""The least number of batches with items that no fetcher has taken yet: the current and the next"""


def batches_arriving(plan: Plan) -> int:
    """Return the number of batches whose items may be in flight together."""
    return -(-plan.io_concurrency // plan.batch_size)


def batches_ahead(plan: Plan) -> int:
    """Return the number of batches to load before a fetcher asks for one: as many as arrive
    together, so that each fetcher finds a next group.
    """
    return max(LEAST_AHEAD, batches_arriving(plan))


def batches_open(plan: Plan) -> int:
    """Return the most batches that are loaded and not complete."""
    return batches_arriving(plan) + batches_ahead(plan) - 1


class _Feed:
    """Hands out items group by group, and computes a batch when its last item has arrived."""

    def __init__(self, plan: Plan, compute: Compute, window: int, in_flight: InFlight) -> None:
        """`window` is the number of batches that may be computed, or wait for it, while other
        batches arrive.
        """
        self._plan = plan
        self._in_flight = in_flight
        self._compute = compute
        self._ready: deque[_OpenBatch] = deque()
        self._wanted = asyncio.Event()
        self._idle_fetchers = fetcher_count(plan, plan.item_count)
        self._ahead = batches_ahead(plan)
        self._places = asyncio.Semaphore(batches_open(plan) + window)
        self._results: asyncio.Queue[BatchResult | BaseException] = asyncio.Queue()
        self._io = _IoClock()
        self.tasks: set[asyncio.Task[None]] = set()
        self._start(self._open_all)

    def _start(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        task = asyncio.create_task(self._watched(work, *args))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _watched(self, work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        try:
            await work(*args)
        except Exception as error:
            self._results.put_nowait(error)

    async def take(self) -> BatchResult:
        """Wait for the next result. Raises the error of a fetcher or a worker."""
        result = await self._results.get()
        if isinstance(result, BaseException):
            raise result
        self._places.release()
        return result

    async def _open_all(self) -> None:
        """Open batch after batch, and start as many fetchers as have work."""
        plan = self._plan
        for batch in iter_batches(plan):
            while len(self._ready) >= self._ahead:
                self._wanted.clear()
                await self._wanted.wait()
            await self._places.acquire()
            inputs = await asyncio.to_thread(
                plan.items.load, plan.workload, batch.start, batch.count
            )
            steps = self._in_flight.enter(batch)
            self._ready.append(_OpenBatch(batch, inputs, steps, given=0, missing=batch.count))
            for _ in range(min(self._idle_fetchers, -(-batch.count // plan.group_size))):
                self._idle_fetchers -= 1
                self._start(self._fetch)

    def _next_group(self) -> tuple[_OpenBatch, range] | None:
        if not self._ready:
            return None
        opened = self._ready[0]
        start, count = opened.given, opened.batch.count
        opened.given = min(start + self._plan.group_size, count)
        if opened.given == count:
            self._ready.popleft()
            self._wanted.set()
        return opened, range(start, opened.given)

    async def _fetch(self) -> None:
        """Fetch group after group, until there is none."""
        try:
            while (group := self._next_group()) is not None:
                opened, positions = group
                self._io.enter()
                await fetch_group_async(self._plan.stages, opened.inputs, positions, opened.steps)
                self._io.leave()
                opened.missing -= len(positions)
                if opened.missing == 0:
                    self._start(self._compute_one, opened)
        finally:
            self._idle_fetchers += 1

    async def _compute_one(self, opened: _OpenBatch) -> None:
        result = await self._compute(opened, self._io.take())
        self._results.put_nowait(result)


class _IoClock:
    """Counts the wall seconds during which at least one group was in flight."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._since = 0.0
        self._seconds = 0.0

    def enter(self) -> None:
        if self._in_flight == 0:
            self._since = time.perf_counter()
        self._in_flight += 1

    def leave(self) -> None:
        self._in_flight -= 1
        self._settle()

    def _settle(self) -> None:
        now = time.perf_counter()
        self._seconds += now - self._since
        self._since = now

    def take(self) -> float:
        """Return the seconds counted since the last call of `take`."""
        if self._in_flight:
            self._settle()
        seconds, self._seconds = self._seconds, 0.0
        return seconds
