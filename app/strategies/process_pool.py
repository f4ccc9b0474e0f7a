"""The base of both process pools, which survives the death of workers.

A pool is built when first needed, warmed (every worker started, the kernel compiled in each), kept
between runs, and rebuilt for another number of workers or after a worker died. When one worker
dies, everything in flight is lost with it: the whole pool is replaced and the lost batches are
tried again, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Final

from hotloop.app.errors import WorkerCrashedError, WorkloadUnusableError, describe_exit
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult, Plan, Words
from hotloop.app.strategies.nursery import ForkServer, Nursery, WorkerContext, worker_context
from hotloop.app.strategies.worker import run_batch
from hotloop.app.strategies.worker_process import warm_up_worker
from hotloop.kernels.contract import WorkloadSource

FINISH_SECONDS: Final = 0.5
"""Time that batches of a cancelled run have to end by themselves before their workers are killed:
long enough to keep the pool of a run of short batches, short enough to be prompt."""

STUCK_SECONDS: Final = 10.0
"""Time after which ending a pool whose workers were all killed is given up."""

REAP_SECONDS: Final = 0.2
"""Time to wait for the exit code of a process that has closed its sentinel."""


class WorkersDiedError(Exception):
    """A worker ended while the pool was in use; everything in flight is lost."""


class PoolStuckError(Exception):
    """The remains of a pool cannot be ended; the process that owns it must be replaced."""


class ProcessPool(ABC):
    """Builds and watches a pool and its calls in flight. One event loop calls all methods."""

    def __init__(self, nursery: Nursery, instruction_set: str | None = None) -> None:
        self._nursery = nursery
        self._instruction_set = instruction_set
        self._server: ForkServer | None = None
        self.words: Words = []
        """The memory in which each worker counts its steps; new with every pool."""
        self.generation = 0
        """The number of pools built so far."""
        self._workers = 0
        self._cause: str | None = None
        self._warm: set[tuple[str, str, WorkloadSource | None]] = set()
        self._processes: list[BaseProcess] = []
        self._outcomes: set[asyncio.Future[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._rebuilding = asyncio.Lock()

    @property
    def pids(self) -> list[int]:
        """Return the pids of the present worker processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    @property
    def tree_pids(self) -> list[int]:
        """Return the pids of the workers and of the process that forked them."""
        return self.pids if self._server is None else [self._server.pid, *self.pids]

    async def ensure(self, workers: int, plan: Plan, at_most: int | None = None) -> None:
        """Make sure of `workers` live workers with the plan's kernel compiled in each. Keep a pool
        that has more, up to `at_most`.

        Raises WorkerCrashedError if they do not start within the plan's number of retries, and
        WorkloadUnusableError.
        """
        attempts = plan.max_batch_retries + 1
        for _ in range(attempts):
            try:
                await self._bring_up(workers, plan, at_most or workers)
            except (WorkersDiedError, threading.BrokenBarrierError) as error:
                await self.discard()
                cause = str(error) or "another worker failed at its start"
            except WorkloadUnusableError:
                await self.discard()
                raise
            else:
                return
        raise WorkerCrashedError(None, attempts, cause)

    async def _bring_up(self, workers: int, plan: Plan, at_most: int) -> None:
        kernel = plan.workload, plan.kernel, plan.source
        server = await asyncio.to_thread(
            self._nursery.server_for, kernel[:2], plan.source, plan.memory_bytes
        )
        if (
            server is not self._server
            or not workers <= self._workers <= at_most
            or any(not p.is_alive() for p in self._processes)
        ):
            await self.discard()
            self.generation += 1
            self._server = server
            self._cause = None
            context = worker_context(server)
            self.words = context.RawArray("q", workers)
            try:
                self._build(workers, context)
                self._workers = workers
                warming = self._start_warm_up(plan)
            except (OSError, EOFError) as error:
                raise WorkersDiedError("what starts them is gone") from error
            finally:
                # Including any that has died by now, as it may have taken a call with it.
                self._processes = [p for p in context.made if p.pid is not None]
            self._watch()
        elif kernel not in self._warm:
            warming = self._start_warm_up(plan)
        else:
            return
        # Not gather(): when cancelled, it would cancel the outcomes, and the calls still run.
        await asyncio.wait(warming)
        # Those that waited for the worker that failed say nothing of the reason.
        for outcome in sorted(warming, key=_waited_for_others):
            outcome.result()
        self._warm.add(kernel)

    def _start_warm_up(self, plan: Plan) -> list[asyncio.Future[Any]]:
        return [self._start(warm_up_worker, plan) for _ in range(self._workers)]

    async def submit(self, call: Callable[..., Any], /, *args: object) -> Any:
        """Run a top-level function in a worker.

        Raises WorkersDiedError if any worker of the pool died before the call returned. If this is
        cancelled, the call may still be running: `finish_or_discard` must come next.
        """
        async with self._rebuilding:  # there is no pool while it is being replaced
            outcome = self._start(call, *args)
        await asyncio.wait((outcome,))
        return outcome.result()

    def _start(self, call: Callable[..., Any], /, *args: object) -> asyncio.Future[Any]:
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._outcomes.add(outcome)
        self._idle.clear()
        outcome.add_done_callback(self._one_ended)
        self._submit(call, args, outcome)
        return outcome

    def _one_ended(self, outcome: asyncio.Future[Any]) -> None:
        outcome.exception()  # marks it as seen, because perhaps nothing waits for it any more
        self._outcomes.discard(outcome)
        if not self._outcomes:
            self._idle.set()

    def _watch(self) -> None:
        """Fail everything in flight as soon as one of the processes ends.

        `multiprocessing.Pool` never notices that. `ProcessPoolExecutor` does, but it watches a
        worker that it started for a call only from the next call on, which may never come.
        """
        loop = asyncio.get_running_loop()
        for process in self._processes:
            loop.add_reader(process.sentinel, self._worker_ended)

    def _unwatch(self) -> None:
        loop = asyncio.get_running_loop()
        for process in self._processes:
            loop.remove_reader(process.sentinel)

    def _worker_ended(self) -> None:
        self._unwatch()
        self._fail_all(self.death_text())

    def _fail_all(self, cause: str) -> None:
        for outcome in tuple(self._outcomes):
            resolve(outcome, None, WorkersDiedError(cause))

    async def finish_or_discard(self) -> None:
        """Stop all calls of a run: wait FINISH_SECONDS for them, then kill the workers."""
        try:
            await asyncio.wait_for(self._idle.wait(), FINISH_SECONDS)
        except TimeoutError:
            await self.discard()

    async def rebuild(self, generation: int, plan: Plan) -> None:
        """Replace the pool of this generation, unless another caller already has."""
        async with self._rebuilding:
            if self.generation == generation:
                workers = self._workers
                await self.discard()
                await self.ensure(workers, plan)

    async def discard(self) -> None:
        """Kill the workers and end the pool. Raises PoolStuckError."""
        if self._workers == 0:
            return
        self._unwatch()
        processes, self._processes = self._processes, []
        self._workers = 0
        self._warm.clear()
        ending = threading.Thread(target=self._ending(processes), daemon=True)
        ending.start()
        try:
            await asyncio.to_thread(ending.join, STUCK_SECONDS)
        finally:
            self._fail_all("the pool was closed")
        if ending.is_alive():
            raise PoolStuckError(f"{type(self).__name__} did not end")

    def death_text(self) -> str:
        """Say how the first worker ended; the pool itself may have ended the other workers."""
        if self._cause is None:
            ended = wait([p.sentinel for p in self._processes], timeout=0)
            dead = [p for p in self._processes if p.sentinel in ended]
            codes = [_exit_code(process) for process in dead]
            by_others = [code for code in codes if code != -signal.SIGTERM]
            self._cause = describe_exit(next(iter(by_others or codes), None))
        return self._cause

    @abstractmethod
    def _build(self, workers: int, context: WorkerContext) -> None:
        """Make the pool; its processes may start now or with the first call."""

    @abstractmethod
    def _submit(
        self, call: Callable[..., Any], args: tuple[object, ...], outcome: asyncio.Future[Any]
    ) -> None:
        """Start the call; `resolve` its outcome, with WorkersDiedError if a worker died."""

    @abstractmethod
    def _ending(self, processes: list[BaseProcess]) -> Callable[[], None]:
        """Return a function that kills the processes and ends the present pool. It blocks, so call
        it in a thread.
        """


def _waited_for_others(outcome: asyncio.Future[Any]) -> bool:
    return isinstance(outcome.exception(), threading.BrokenBarrierError)


def _exit_code(process: BaseProcess) -> int | None:
    """Return the exit code of a process that has ended. It may come a moment later, because a
    thread of the pool may have reaped the process and not noted the code yet.
    """
    deadline = time.monotonic() + REAP_SECONDS
    while (code := process.exitcode) is None and time.monotonic() < deadline:
        time.sleep(0.001)
    return code


def resolve(outcome: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    """Set the outcome, unless it is set already."""
    if outcome.done():
        return
    if error is None:
        outcome.set_result(result)
    else:
        outcome.set_exception(error)


async def run_in_pool(
    pool: ProcessPool, plan: Plan, batch: Batch, call: Callable[..., BatchResult], *args: object
) -> BatchResult:
    """Run `call(*args)`, which computes the batch, in a worker, and again after a worker's death.

    Raises WorkerCrashedError when workers died more than `plan.max_batch_retries` times with this
    batch in flight.
    """
    deaths = 0
    while True:
        generation = pool.generation
        try:
            result: BatchResult = await pool.submit(call, *args)
        except WorkersDiedError as error:
            deaths += 1
            if deaths > plan.max_batch_retries:
                raise WorkerCrashedError(batch.index, deaths, str(error)) from error
            await pool.rebuild(generation, plan)
        else:
            return result


async def run_batch_in_pool(pool: ProcessPool, plan: Plan, batch: Batch) -> BatchResult:
    """Execute the whole batch, I/O included, in a worker."""
    return await run_in_pool(pool, plan, batch, run_batch, plan, batch)
