"""The histogram of lags, and the monitor that fills it."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from hotloop.app.observability.lag import LagRecorder, LoopLagMonitor
from tests.fixtures.waiting import until


def test_quantiles_are_within_five_percent_and_the_maximum_is_exact() -> None:
    numbers = random.Random(1)
    lags = [numbers.lognormvariate(0, 2) for _ in range(5_000)]
    recorder = LagRecorder()
    for lag in lags:
        recorder.add(lag)
    ordered = sorted(lags)
    summary = recorder.summary()
    assert summary is not None
    assert summary.p50 == pytest.approx(ordered[2_500], rel=0.06)
    assert summary.p99 == pytest.approx(ordered[4_950], rel=0.06)
    assert summary.max == ordered[-1]


@pytest.mark.parametrize("lag", [-1.0, 0.0, 0.001, 1e9])
def test_extreme_lags_are_counted(lag: float) -> None:
    recorder = LagRecorder()
    recorder.add(lag)
    summary = recorder.summary()
    assert summary is not None
    assert summary.p50 <= max(summary.max, 0.011)


def test_empty_recorder_has_no_summary() -> None:
    assert LagRecorder().summary() is None


def test_monitor_sees_a_blocked_loop_and_stops_with_its_last_recorder() -> None:
    async def block() -> tuple[float, int]:
        monitor = LoopLagMonitor()
        with monitor.recording() as outer, monitor.recording():
            await until(lambda: outer.summary() is not None, "a sample")
            time.sleep(0.2)  # noqa: ASYNC251 - the very thing that is to be seen
            before = outer.summary()
            await until(lambda: outer.summary() != before, "another sample")
            summary = outer.summary()
        await asyncio.sleep(0)
        assert summary is not None
        return summary.max, len(asyncio.all_tasks())

    most, tasks = asyncio.run(block())
    assert most >= 150
    assert tasks == 1
