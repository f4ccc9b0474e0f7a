"""One run inside a run host: set-up, batches, deadline, measurements, and how it ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

from hotloop.app.errors import (
    ErrorRateExceededError,
    RunCancelledError,
    RunTimeoutError,
    ServiceError,
)
from hotloop.app.runhost.breaker_news import breaker_news
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.runhost.measuring import MemoryGauge, RunMeter
from hotloop.app.runhost.messages import Batches, Progress, RunReport, RunStarted
from hotloop.app.runhost.outbox import Outbox
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.base import Plan, Strategy

PROGRESS_SECONDS: Final = 0.5
"""Between two looks at how far the items in work are."""

Send = Callable[[RunStarted | Batches | Progress | BreakerReport], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the runs of a run host share."""

    usable_cpus: int
    gauge: MemoryGauge


async def execute(plan: Plan, strategy: Strategy, around: Surroundings, send: Send) -> RunReport:
    """Execute the plan; its results go through `send`, its outcome into the report.

    Cancelling this coroutine cancels the run: the report then carries RunCancelledError. Any
    exception that is no ServiceError is a fault of this program and comes out as it is.
    """
    run = _Run(plan, strategy, around, send)
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
    return run.report(error)


def _forget_cancellation() -> None:
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


class _Run:
    def __init__(self, plan: Plan, strategy: Strategy, around: Surroundings, send: Send) -> None:
        self._plan = plan
        self._strategy = strategy
        self._around = around
        self._send = send
        self._setup_seconds = 0.0
        self._duration_seconds = 0.0
        self._effective_workers = 0
        self._io_seconds = 0.0
        self._cpu_seconds = 0.0
        self._peak_memory_bytes = 0
        self._failed_items = 0
        self._received_items = 0

    async def execute(self) -> None:
        workers = partial(self._strategy.worker_pids, self._plan)
        meter = await asyncio.to_thread(RunMeter, self._around.gauge, workers)
        started = time.perf_counter()
        self._effective_workers = await self._strategy.prepare(self._plan)
        self._setup_seconds = time.perf_counter() - started
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
                    for report in result.breakers:
                        news.put(report)
                    await outbox.put(result)
                    self._check_error_rate()
        finally:
            self._duration_seconds = time.perf_counter() - started
            telling.cancel()
            self._cpu_seconds, self._peak_memory_bytes = await asyncio.to_thread(meter.stop)
            await asyncio.gather(telling, return_exceptions=True)
            await outbox.close()

    async def _tell_progress(self) -> None:
        """Tell about items in work, if any have gone on; results tell about the others."""
        steps_of_item = len(self._plan.stages) + 1
        told = 0
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            passed = self._received_items + self._strategy.in_flight.steps() // steps_of_item
            if passed > max(told, self._received_items):
                told = passed
                await self._send(Progress(min(passed, self._plan.item_count)))

    def _check_error_rate(self) -> None:
        """Fail as soon as no good item to come could bring the rate down to the bound again."""
        total = self._plan.item_count
        if self._failed_items > self._plan.max_error_rate * total:
            raise ErrorRateExceededError(self._failed_items, total, self._plan.max_error_rate)

    def report(self, error: ServiceError | None) -> RunReport:
        available_seconds = self._duration_seconds * self._around.usable_cpus
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
