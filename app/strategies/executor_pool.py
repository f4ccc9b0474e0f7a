"""The process pool on `concurrent.futures.ProcessPoolExecutor`, which breaks when a worker dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess
from typing import Any

from hotloop.app.logs.setup import log_options
from hotloop.app.strategies.nursery import WorkerContext
from hotloop.app.strategies.process_pool import ProcessPool, WorkersDiedError, resolve
from hotloop.app.strategies.worker_process import initialise_worker


class ExecutorPool(ProcessPool):
    """See ProcessPool."""

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
