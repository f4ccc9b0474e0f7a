"""Cutting a run into batches and keeping a bounded number of them in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Any, Final

from app.sources.base import Batch
from app.strategies.base import BatchResult, Plan


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
    submit: Callable[[Batch], Coroutine[Any, Any, BatchResult]],
    window: int,
    stop: threading.Event,
) -> AsyncGenerator[BatchResult, None]:
    """Results in the order of completion, with at most `window` batches in flight.

    Ended early, it sets `stop`, cancels what is in flight and returns when that has ended.
    """
    in_flight: set[asyncio.Task[BatchResult]] = set()
    try:
        while True:
            while len(in_flight) < window and (batch := next(batches, None)) is not None:
                in_flight.add(asyncio.create_task(submit(batch)))
            if not in_flight:
                return
            done, _ = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                in_flight.discard(task)
                yield task.result()
    finally:
        stop.set()
        await cancel_and_wait(in_flight)


async def cancel_and_wait(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until every one has ended; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
