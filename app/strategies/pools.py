"""The pools of a run host: made once, shared by its strategies, kept between runs.

Process pools stand on `concurrent.futures.ProcessPoolExecutor`, which breaks when a worker dies,
and on `multiprocessing.Pool`, which hangs: it quietly starts another worker and waits for ever for
the result that died with the first one. Hence the watch of ProcessPool.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from typing import Any, Final, ParamSpec, TypeVar

from hotloop.app.logs.setup import log_options
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import batch_count
from hotloop.app.strategies.cluster.driver_process import DriverProcess
from hotloop.app.strategies.cluster.protocol import ClusterConfig
from hotloop.app.strategies.nursery import Nursery, WorkerContext
from hotloop.app.strategies.process_pool import (
    FINISH_SECONDS,
    ProcessPool,
    WorkersDiedError,
    resolve,
)
from hotloop.app.strategies.worker_process import initialise_worker


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The most workers of each kind that a run gets."""

    threads: int
    processes: int
    cpus: int
    """Usable CPUs; further processes have nothing to do, unless they wait for I/O."""
    clusters: Mapping[str, int] = field(default_factory=dict)
    """Workers of the clusters for which they are known, by strategy."""


class Pools:
    """The pools of a run host, one of each kind. `close` ends them; they are rebuilt when needed.

    Worker processes use `instruction_set` where a kernel has it; None takes the best.
    """

    def __init__(
        self,
        limits: PoolLimits,
        instruction_set: str | None = None,
        clusters: Sequence[ClusterConfig] = (),
    ) -> None:
        self.limits = limits
        self.drivers = {StrategyName(c.engine): DriverProcess(c) for c in clusters}
        """The drivers of clusters, by strategy."""
        self.threads = ThreadPool()
        self.nursery = Nursery(instruction_set)
        self.executor = ExecutorPool(self.nursery, instruction_set)
        self.multiprocessing = MultiprocessingPool(self.nursery, instruction_set)

    def thread_workers(self, plan: Plan) -> int:
        """Return the number of threads that a run may use."""
        return pool_workers(plan, self.limits, in_processes=False)

    def process_workers(self, plan: Plan) -> int:
        """Return the number of processes that a run may use, even if some have nothing to do."""
        return pool_workers(plan, self.limits, in_processes=True)

    async def ensure_processes(self, pool: ProcessPool, plan: Plan) -> int:
        """Start as many worker processes as the plan has work for; return their number."""
        most = self.process_workers(plan)
        workers = effective_workers(plan, most)
        await pool.ensure(max(1, workers), plan, most)
        return workers

    async def close(self) -> None:
        """End all pools. Raises process_pool.PoolStuckError."""
        self.threads.close()
        await self.executor.discard()
        await self.multiprocessing.discard()
        for driver in self.drivers.values():
            await driver.close()
        await asyncio.to_thread(self.nursery.close)


def pool_workers(plan: Plan, limits: PoolLimits, *, in_processes: bool) -> int:
    """Return the number of workers that a run may use. Processes are at most as many as usable
    CPUs unless they wait for I/O, which the processes of `hybrid` do not.
    """
    if plan.strategy in CLUSTERS:
        return min(plan.workers, limits.clusters.get(plan.strategy, plan.workers))
    if not in_processes:
        return min(plan.workers, limits.threads)
    waits = bool(plan.stages) and plan.strategy is not StrategyName.HYBRID
    most = limits.processes if waits else min(limits.processes, limits.cpus)
    return min(plan.workers, most)


def effective_workers(plan: Plan, pool_workers: int) -> int:
    """Return the number of workers that will have work: at most one for each batch."""
    return min(pool_workers, batch_count(plan))


P = ParamSpec("P")
R = TypeVar("R")


class ThreadPool:
    """Worker threads, kept between runs and rebuilt for another number of them. A call can be
    awaited until it has really ended.
    """

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._workers = 0

    def ensure(self, workers: int) -> None:
        """Make sure that the pool has this number of threads."""
        if self._executor is not None and self._workers == workers:
            return
        self.close()
        self._workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="hotloop-worker")

    async def submit(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the call in a thread. When cancelled, return only after the call has ended: a thread
        cannot be killed, so the caller must have told the call to stop.
        """
        assert self._executor is not None, "ensure() comes first"
        future = self._executor.submit(call, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            await _ended(future)
            raise

    def close(self) -> None:
        """End the threads, and wait for calls that are still running."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None


async def _ended(future: Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    await ended.wait()


class ExecutorPool(ProcessPool):
    """A ProcessPool on `concurrent.futures.ProcessPoolExecutor`."""

    _executor: ProcessPoolExecutor

    def _build(self, workers: int, context: WorkerContext) -> None:
        self._executor = ProcessPoolExecutor(
            workers,
            mp_context=context,
            initializer=initialise_worker,
            initargs=(context.Barrier(workers), self.words, self._instruction_set, log_options()),
        )

    def _submit(
        self, call: Callable[..., Any], args: tuple[object, ...], outcome: asyncio.Future[Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        try:
            future = self._executor.submit(call, *args)
        except BrokenProcessPool:
            resolve(outcome, None, WorkersDiedError(self.death_text()))
        else:
            future.add_done_callback(
                lambda ended: loop.call_soon_threadsafe(self._pass_on, ended, outcome)
            )

    def _pass_on(self, ended: Future[Any], outcome: asyncio.Future[Any]) -> None:
        if ended.cancelled():
            resolve(outcome, None, WorkersDiedError("the pool was closed"))
            return
        error = ended.exception()
        if isinstance(error, BrokenProcessPool):
            error = WorkersDiedError(self.death_text())
        resolve(outcome, None if error else ended.result(), error)

    def _ending(self, processes: list[BaseProcess]) -> Callable[[], None]:
        executor = self._executor

        def end() -> None:
            for process in processes:
                process.kill()
            executor.shutdown(wait=True, cancel_futures=True)

        return end


_GRACE_SECONDS: Final = 0.02
"""Time after its workers' end in which a pool ends, unless it waits for a lock of a dead worker."""


class _Pool(Pool):
    """multiprocessing's pool, in which results do not wake the thread that replaces workers.

    CPython lets that thread wait for the results' pipe as well, which another thread reads: while a
    result lies there it spins, and keeps the GIL from the thread that would read the result.
    """

    def _get_sentinels(self) -> list[Any]:
        return [self._change_notifier._reader]  # type: ignore[attr-defined]


class MultiprocessingPool(ProcessPool):
    """A ProcessPool on `multiprocessing.Pool`."""

    _pool: Pool

    def _build(self, workers: int, context: WorkerContext) -> None:
        self._pool = _Pool(
            workers,
            initialise_worker,
            (context.Barrier(workers), self.words, self._instruction_set, log_options()),
            context=context,
        )

    def _submit(
        self, call: Callable[..., Any], args: tuple[object, ...], outcome: asyncio.Future[Any]
    ) -> None:
        loop = asyncio.get_running_loop()
        if any(not process.is_alive() for process in self._processes):
            resolve(outcome, None, WorkersDiedError(self.death_text()))
            return
        self._pool.apply_async(
            call,
            args,
            callback=lambda result: loop.call_soon_threadsafe(resolve, outcome, result, None),
            error_callback=lambda error: loop.call_soon_threadsafe(resolve, outcome, None, error),
        )

    def _ending(self, processes: list[BaseProcess]) -> Callable[[], None]:
        pool = self._pool

        def end() -> None:
            terminating = threading.Thread(target=pool.terminate, daemon=True)
            terminating.start()
            for process in processes:
                process.kill()
            if not _is_maintained(pool):
                # The thread that replaces workers ended as it could start none, and has not told
                # the thread of tasks, which terminate() waits for.
                pool._taskqueue.put(None)  # type: ignore[attr-defined]
            for process in processes:
                process.join(FINISH_SECONDS)
            terminating.join(_GRACE_SECONDS)
            if terminating.is_alive():
                # A worker holds the lock of the task queue while it waits for a task, and that of
                # the result queue while it returns a result. A killed worker never releases it, and
                # terminate() waits for it. Any process may release locks of multiprocessing.
                _release(getattr(getattr(pool, "_inqueue", None), "_rlock", None))
                _release(getattr(getattr(pool, "_outqueue", None), "_wlock", None))
            terminating.join()
            pool.join()

        return end


def _is_maintained(pool: Pool) -> bool:
    """Return True if the thread that replaces workers is alive."""
    thread: threading.Thread | None = getattr(pool, "_worker_handler", None)
    return thread is None or thread.is_alive()


def _release(lock: Any) -> None:
    """Free a lock that a dead process may hold."""
    if lock is not None:
        lock.acquire(block=False)
        lock.release()
