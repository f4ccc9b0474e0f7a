"""Cutting a run into batches and keeping a bounded number of them in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Final

from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult, InFlight, Plan, StepCount


def batch_count(plan: Plan) -> int:
    """Return the number of batches that a plan is cut into."""
    return sum(-(-count // plan.batch_size) for _, count in plan.item_ranges)


def iter_batches(plan: Plan) -> Iterator[Batch]:
    """Yield the batches in order; the run's items are never all in memory."""
    for first, count in plan.item_ranges:
        for start in range(first, first + count, plan.batch_size):
            size = min(plan.batch_size, first + count - start)
            yield Batch(start // plan.batch_size, start, size)


_ON_THEIR_WAY: Final = 4
"""Batches in transit between the event loop and the workers: passing a small batch on and taking
its result may take longer than computing it."""


def window_size(workers: int) -> int:
    """Return the number of batches in flight: one for each worker, and more in transit, so that no
    worker is idle.
    """
    return 2 * workers + _ON_THEIR_WAY


async def run_windowed(
    batches: Iterator[Batch],
    submit: Callable[[Batch, StepCount], Coroutine[Any, Any, BatchResult]],
    window: int,
    stop: threading.Event,
    in_flight: InFlight,
) -> AsyncGenerator[BatchResult, None]:
    """Yield results in the order of completion, with at most `window` batches in flight. `submit`
    executes a batch, and counts its steps in this process in the counter that it gets.

    Closed early, this sets `stop`, cancels the batches in flight, and returns when they have ended.
    """
    tasks: set[asyncio.Task[BatchResult]] = set()
    try:
        while True:
            while len(tasks) < window and (batch := next(batches, None)) is not None:
                tasks.add(asyncio.create_task(submit(batch, in_flight.enter(batch))))
            if not tasks:
                return
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                tasks.discard(task)
                result = task.result()
                in_flight.leave(result.batch)
                yield result
    finally:
        stop.set()
        await cancel_and_wait(tasks)


async def cancel_and_wait(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until all of them have ended; their errors are dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
