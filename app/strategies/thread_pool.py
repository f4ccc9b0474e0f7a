"""Worker threads: a ThreadPoolExecutor of our own, whose calls can be awaited to their very end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class ThreadPool:
    """A pool that is kept between runs and rebuilt when another number of threads is asked for."""

    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._workers = 0

    def ensure(self, workers: int) -> None:
        if self._executor is not None and self._workers == workers:
            return
        self.close()
        self._workers = workers
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="hotloop-worker")

    async def submit(self, call: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the call in a thread. Cancelled, this returns only when the call is not running:
        a thread cannot be killed, so the caller must have told the call to stop.
        """
        assert self._executor is not None, "ensure() comes first"
        future = self._executor.submit(call, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            await _ended(future)
            raise

    def close(self) -> None:
        """Ends the threads; calls still running are waited for."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._executor = None


async def _ended(future: Future[Any]) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    future.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set))
    await ended.wait()
