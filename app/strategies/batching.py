"""Cutting a run into batches and keeping a bounded number of them in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Final

from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult, Plan
from hotloop.app.strategies.in_flight import InFlight, StepCount


def batch_count(plan: Plan) -> int:
    return sum(-(-count // plan.batch_size) for _, count in plan.item_ranges)


def iter_batches(plan: Plan) -> Iterator[Batch]:
    """The batches in order, one at a time: the run's items are never all in memory."""
    for first, count in plan.item_ranges:
        for start in range(first, first + count, plan.batch_size):
            size = min(plan.batch_size, first + count - start)
            yield Batch(start // plan.batch_size, start, size)


_ON_THEIR_WAY: Final = 4
"""Batches between the event loop and the workers: to pass one on and take its result may last
longer than to compute a small one."""


def window_size(workers: int) -> int:
    """Batches in flight: for each worker one and one waiting, so that none is ever idle."""
    return 2 * workers + _ON_THEIR_WAY


async def run_windowed(
    batches: Iterator[Batch],
    submit: Callable[[Batch, StepCount], Coroutine[Any, Any, BatchResult]],
    window: int,
    stop: threading.Event,
    in_flight: InFlight,
) -> AsyncGenerator[BatchResult, None]:
    """Results in the order of completion, with at most `window` batches in flight. What `submit`
    does in this process for a batch is counted in the counter that it gets.

    Ended early, it sets `stop`, cancels what is in flight and returns when that has ended.
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
    """Cancel the tasks and wait until every one has ended; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
