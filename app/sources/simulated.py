"""Simulated items and simulated I/O: what a service without a database runs on."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from weakref import WeakKeyDictionary

import numpy as np

from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.kernels import get_workload


@dataclass(frozen=True, slots=True)
class GeneratedItems:
    """Items 0 … count - 1 with the columns that the workload defines for a simulated item."""

    count: int

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        item_ids = np.arange(start, start + count, dtype=np.int64)
        return ItemBatch(item_ids, get_workload(workload).simulated_columns(item_ids))


@dataclass(frozen=True, slots=True)
class SimulatedStage:
    """Waits between `low_seconds` and `high_seconds` (uniform) for every item."""

    name: str
    low_seconds: float
    high_seconds: float
    source: str = "simulated"
    batched: bool = False

    @property
    def seconds_per_call(self) -> float:
        return (self.low_seconds + self.high_seconds) / 2

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        for _ in positions:
            stop.wait(random.uniform(self.low_seconds, self.high_seconds))

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        """The items wait side by side, so that the longest wait is the call's."""
        longest = random.random() ** (1 / len(positions))  # as the largest of that many numbers
        await wait(self.low_seconds + (self.high_seconds - self.low_seconds) * longest)


async def wait(seconds: float) -> None:
    """Do what asyncio.sleep does, for about half of its cost when thousands wait at once.

        wait ──> heap of (when, number, future) ──> one timer of the loop, for the earliest
                              ^                               │
                              └── wakes all that are due, and is set for the next

    A wait that was cancelled stays in the heap until its time.
    """
    loop = asyncio.get_running_loop()
    timers = _timers.get(loop)
    if timers is None:
        timers = _timers[loop] = _Timers()
    await timers.after(seconds, loop)


class _Timers:
    """The waits of one event loop. It does not hold the loop, so that it can go with it."""

    def __init__(self) -> None:
        # Tuples are compared without a call into Python, and the number decides between equals.
        self._waits: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()
        self._alarm: asyncio.TimerHandle | None = None

    def after(self, seconds: float, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        when, future = loop.time() + seconds, loop.create_future()
        heappush(self._waits, (when, next(self._numbers), future))
        if self._alarm is None:
            self._alarm = loop.call_at(when, self._wake, loop)
        elif when < self._alarm.when():
            self._alarm.cancel()
            self._alarm = loop.call_at(when, self._wake, loop)
        return future

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        now, waits = loop.time(), self._waits
        while waits and waits[0][0] <= now:
            future = heappop(waits)[2]
            if not future.done():  # or the waiter was cancelled
                future.set_result(None)
        self._alarm = loop.call_at(waits[0][0], self._wake, loop) if waits else None


_timers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Timers] = WeakKeyDictionary()
