"""strategies.pools: the threads of multiprocessing's pool work as little as they must."""

from __future__ import annotations

import asyncio
from multiprocessing.pool import Pool

import pytest

from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.timed_runs import probe_plan
from hotloop.app.strategies.nursery import Nursery
from hotloop.app.strategies.pools import MultiprocessingPool

CALLS = 100
RESULT_BYTES = 1_000_000
"""Bytes of a result: enough to keep the reading thread busy for a while."""


def test_results_do_not_wake_the_replacing_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread looks after workers at their start, and whenever nothing is in flight."""
    looks = 0
    maintain = Pool._maintain_pool  # type: ignore[attr-defined]

    def counted(*args: object) -> None:
        nonlocal looks
        looks += 1
        maintain(*args)

    monkeypatch.setattr(Pool, "_maintain_pool", staticmethod(counted))

    async def compute() -> None:
        nursery = Nursery()
        pool = MultiprocessingPool(nursery)
        try:
            await pool.ensure(2, probe_plan("loops", "python", StrategyName.MULTIPROCESSING))
            calls = (pool.submit(bytes, RESULT_BYTES) for _ in range(CALLS))
            assert set(map(len, await asyncio.gather(*calls))) == {RESULT_BYTES}
        finally:
            await pool.discard()
            nursery.close()

    asyncio.run(compute())
    assert 0 < looks <= CALLS
