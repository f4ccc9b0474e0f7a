"""A run inside a run host: set-up, batches, deadline, measurements and end; and the messages with
its results and breaker changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from hotloop import kernels
from hotloop.app.errors import (
    ErrorRateExceededError,
    RunCancelledError,
    RunTimeoutError,
    ServiceError,
)
from hotloop.app.runhost.calls import user_error
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.runhost.measuring import MemoryGauge, RunMeter
from hotloop.app.runhost.messages import Batches, Progress, RunReport, RunStarted
from hotloop.app.sources.breaker_reports import BreakerReport, listening
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import BatchResult, Plan, Strategy
from hotloop.app.strategies.registry import uses_processes

PROGRESS_SECONDS: Final = 0.5
"""Time between two checks of the progress of items in work."""

SEND_INTERVAL_SECONDS: Final = 0.25
"""Time between two messages with results, unless one is full: often enough for progress, and seldom
enough that receiving them, which wakes the API process, does not slow down the workers."""

FULL_BYTES: Final = 4 << 20
"""Bytes of results that make a full message; the run waits while another one is being sent."""

Send = Callable[[RunStarted | Batches | Progress | BreakerReport], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HostResources:
    """The resources that all runs of a run host share."""

    usable_cpus: int
    gauge: MemoryGauge


async def execute(
    plan: Plan, strategy: Strategy, resources: HostResources, send: Send
) -> RunReport:
    """Execute the plan: send results through `send`, and return the outcome as a report.

    Cancelling this coroutine cancels the run: the report then carries RunCancelledError. An
    exception that is not a ServiceError, nor caused by a user's code, is a fault of this program,
    and is raised unchanged.
    """
    run = _Run(plan, strategy, resources, send)
    error: ServiceError | None = None
    try:
        async with asyncio.timeout(plan.timeout_seconds) as deadline:
            await run.execute()
    except asyncio.CancelledError:
        _forget_cancellation()
        error = RunCancelledError()
    except TimeoutError:
        if not deadline.expired() or plan.timeout_seconds is None:
            raise
        error = RunTimeoutError(plan.timeout_seconds)
    except ServiceError as raised:
        error = raised
    except (kernels.KernelsError, MemoryError) as raised:
        error = user_error(plan, raised)
    return run.report(error)


def _enter(plan: Plan) -> None:
    own_code.enter(plan)
    if not uses_processes(plan.strategy, kernels.releases_gil(plan.workload, plan.kernel)):
        own_code.warm_up(plan)


def _forget_cancellation() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


class _Run:
    def __init__(
        self, plan: Plan, strategy: Strategy, resources: HostResources, send: Send
    ) -> None:
        self._plan = plan
        self._strategy = strategy
        self._resources = resources
        self._send = send
        self._setup_seconds = 0.0
        self._duration_seconds = 0.0
        self._effective_workers = 0
        self._io_seconds = 0.0
        self._cpu_seconds = 0.0
        self._peak_memory_bytes = 0
        self._elsewhere: dict[str, int] = {}
        """Peak bytes of memory of each worker on a cluster."""
        self._elsewhere_cpu_seconds = 0.0
        self._failed_items = 0
        self._received_items = 0

    async def execute(self) -> None:
        started = time.perf_counter()
        await self._enter_code()
        entering_seconds = time.perf_counter() - started
        workers = partial(self._strategy.worker_pids, self._plan)
        meter = await asyncio.to_thread(RunMeter, self._resources.gauge, workers)
        started = time.perf_counter()
        self._effective_workers = await self._strategy.prepare(self._plan)
        self._setup_seconds = entering_seconds + time.perf_counter() - started
        measured = Measurements(
            setup_seconds=self._setup_seconds, effective_workers=self._effective_workers
        )
        await self._send(RunStarted(measured))
        meter.start()
        outbox = Outbox(self._send)
        telling = asyncio.create_task(self._tell_progress())
        started = time.perf_counter()
        try:
            async with (
                breaker_news(self._send) as news,
                aclosing(self._strategy.run(self._plan)) as results,
            ):
                async for result in results:
                    self._received_items += result.batch.count
                    self._io_seconds += result.io_seconds
                    self._failed_items += len(result.errors)
                    if (used := result.usage) is not None:
                        self._elsewhere[used.worker] = used.peak_bytes
                        self._elsewhere_cpu_seconds += used.cpu_seconds
                    for report in result.breakers:
                        news.put(report)
                    await outbox.put(result)
                    self._check_error_rate()
        finally:
            self._duration_seconds = time.perf_counter() - started
            telling.cancel()
            self._cpu_seconds, self._peak_memory_bytes = await asyncio.to_thread(meter.stop)
            self._cpu_seconds += self._elsewhere_cpu_seconds
            self._peak_memory_bytes += sum(self._elsewhere.values())
            await asyncio.gather(telling, return_exceptions=True)
            await outbox.close()

    async def _enter_code(self) -> None:
        """Import a user's code, and compile its kernel if threads of this process call it. If this
        is cancelled, it ends when the user's code does; if that never ends, the API kills this
        process.
        """
        if self._plan.source is None:
            own_code.enter(self._plan)
            return
        entering = asyncio.ensure_future(asyncio.to_thread(_enter, self._plan))
        try:
            await asyncio.shield(entering)
        except asyncio.CancelledError:
            await asyncio.wait((entering,))
            raise

    async def _tell_progress(self) -> None:
        """Send the progress of items in work, if any; results report the finished items."""
        steps_of_item = len(self._plan.stages) + 1
        told = 0
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            passed = self._received_items + self._strategy.in_flight.steps() // steps_of_item
            if passed > max(told, self._received_items):
                told = passed
                await self._send(Progress(min(passed, self._plan.item_count)))

    def _check_error_rate(self) -> None:
        """Fail as soon as the remaining items cannot bring the error rate down to its limit."""
        total = self._plan.item_count
        if self._failed_items > self._plan.max_error_rate * total:
            raise ErrorRateExceededError(self._failed_items, total, self._plan.max_error_rate)

    def report(self, error: ServiceError | None) -> RunReport:
        cpus = self._resources.usable_cpus
        if self._elsewhere:
            cpus = max(cpus, self._effective_workers)
        available_seconds = self._duration_seconds * cpus
        measured = Measurements(
            setup_seconds=self._setup_seconds,
            duration_seconds=self._duration_seconds,
            effective_workers=self._effective_workers,
            io_seconds=self._io_seconds,
            cpu_seconds=self._cpu_seconds,
            cpu_utilization=(
                min(1.0, self._cpu_seconds / available_seconds) if available_seconds else 0.0
            ),
            peak_memory_bytes=self._peak_memory_bytes,
        )
        return RunReport(error, measured)


class Outbox:
    """Gathers results while earlier results are being sent. `put` results, and `close` at the end;
    both raise the errors of `send`.
    """

    def __init__(self, send: Callable[[Batches], Awaitable[None]]) -> None:
        self._send = send
        self._held: list[BatchResult] = []
        self._held_bytes = 0
        self._closing = False
        self._changed = asyncio.Condition()
        self._sender = asyncio.create_task(self._send_all())

    async def put(self, result: BatchResult) -> None:
        """Add a result; waits while a full message is being sent."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._full or self._sender.done())
            if self._sender.done():
                self._sender.result()
            self._held.append(result)
            self._held_bytes += _size_bytes(result)
            self._changed.notify_all()

    @property
    def _full(self) -> bool:
        return self._held_bytes >= FULL_BYTES

    async def close(self) -> None:
        """Wait until everything is sent."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        await self._sender

    async def _send_all(self) -> None:
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._held or self._closing)
                    held, self._held, self._held_bytes = self._held, [], 0
                    self._changed.notify_all()
                if not held:
                    return
                await self._send(Batches(tuple(held)))
                del held
                await self._pause()
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_INTERVAL_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._full or self._closing)


def _size_bytes(result: BatchResult) -> int:
    return result.item_ids.nbytes + sum(column.nbytes for column in result.columns.values())


class BreakerNews:
    """Breaker reports of this process and its workers for the API, each change once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[BreakerReport | None] = asyncio.Queue()
        self._last: dict[str, BreakerReport] = {}

    def put(self, report: BreakerReport) -> None:
        if self._last.get(report.source) != report:
            self._last[report.source] = report
            self._queue.put_nowait(report)

    def put_from_thread(self, report: BreakerReport) -> None:
        self._loop.call_soon_threadsafe(self.put, report)

    async def send_all(self, send: Callable[[BreakerReport], Awaitable[None]]) -> None:
        """Send reports until `end` is called."""
        while (report := await self._queue.get()) is not None:
            await send(report)

    def end(self) -> None:
        self._queue.put_nowait(None)


@asynccontextmanager
async def breaker_news(
    send: Callable[[BreakerReport], Awaitable[None]],
) -> AsyncIterator[BreakerNews]:
    """Send the reports of workers and of this process's breakers until the block ends."""
    news = BreakerNews()
    sender = asyncio.create_task(news.send_all(send))
    try:
        with listening(news.put_from_thread):
            yield news
    finally:
        news.end()
        await sender
