"""The process pool on `multiprocessing.Pool`, which by itself hangs when a worker dies.

It quietly starts another worker and waits for ever for the result that died with the first: hence
the watch of ProcessPool.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from multiprocessing.pool import Pool
from multiprocessing.process import BaseProcess
from typing import Any, Final

from hotloop.app.logs.setup import log_options
from hotloop.app.strategies.nursery import WorkerContext
from hotloop.app.strategies.process_pool import (
    FINISH_SECONDS,
    ProcessPool,
    WorkersDiedError,
    resolve,
)
from hotloop.app.strategies.worker_process import initialise_worker

_GRACE_SECONDS: Final = 0.02
"""After its workers are gone, a pool that has not ended by now waits for a lock that one held."""


class _Pool(Pool):
    """multiprocessing's pool, whose thread that replaces workers is not woken by results.

    CPython has it wait for the results' pipe as well, which another thread reads: as long as a
    result lies there it is awake without end, and keeps the GIL from the thread that would read it.
    """

    def _get_sentinels(self) -> list[Any]:
        return [self._change_notifier._reader]  # type: ignore[attr-defined]


class MultiprocessingPool(ProcessPool):
    """See ProcessPool."""

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
                # It ended when it could start no worker, and has not told the thread of tasks,
                # which terminate() waits for.
                pool._taskqueue.put(None)  # type: ignore[attr-defined]
            for process in processes:
                process.join(FINISH_SECONDS)
            terminating.join(_GRACE_SECONDS)
            if terminating.is_alive():
                # A worker that waits for a task holds the lock of the task queue, one that
                # returns a result that of the result queue; killed, it never gives it back, and
                # terminate() waits for it. Locks of multiprocessing may be released by any
                # process.
                _release(getattr(getattr(pool, "_inqueue", None), "_rlock", None))
                _release(getattr(getattr(pool, "_outqueue", None), "_wlock", None))
            terminating.join()
            pool.join()

        return end


def _is_maintained(pool: Pool) -> bool:
    """Whether the thread that replaces workers is there."""
    thread: threading.Thread | None = getattr(pool, "_worker_handler", None)
    return thread is None or thread.is_alive()


def _release(lock: Any) -> None:
    """Free a lock that a dead process may hold."""
    if lock is not None:
        lock.acquire(block=False)
        lock.release()
