"""Thousands of waits at once, each for about half of what asyncio.sleep costs.

    wait ──> heap of (when, number, future) ──> one timer of the loop, for the earliest
                          ^                               │
                          └── wakes all that are due, and is set for the next

A wait that was cancelled stays in the heap until its time.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from itertools import count
from weakref import WeakKeyDictionary


async def wait(seconds: float) -> None:
    """As asyncio.sleep."""
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
