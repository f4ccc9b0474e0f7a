"""Waits share one timer: each ends at its time, and cancelled ones delay no other."""

from __future__ import annotations

import asyncio
import time

import pytest

from hotloop.app.sources.simulated import wait


def test_waits_end_in_the_order_of_their_times_and_not_early() -> None:
    ended: list[float] = []

    async def one(seconds: float) -> None:
        started = time.perf_counter()
        await wait(seconds)
        assert time.perf_counter() - started >= seconds - 0.001
        ended.append(seconds)

    async def all_of_them() -> None:
        times = [0.04, 0.0, 0.06, 0.02, 0.04]
        await asyncio.gather(*map(one, times))
        await one(0.01)  # the last one of the heap is gone; a new alarm is set
        assert ended == [*sorted(times), 0.01]

    asyncio.run(all_of_them())


def test_cancelled_wait_ends_without_disturbing_other_waits() -> None:
    async def both() -> None:
        long, short = asyncio.create_task(wait(60)), asyncio.create_task(wait(0.03))
        first = asyncio.create_task(wait(0.01))
        await asyncio.sleep(0)
        long.cancel()
        first.cancel()
        for cancelled in (long, first):
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        await asyncio.wait_for(short, 10)

    asyncio.run(both())
