"""`calibrate.calibrator`, `calibrate.constants`: every constant is measured, and the run host goes
on as before.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import pytest

from hotloop import kernels
from hotloop.app.errors import RunHostDiedError
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.constants import IN_FLIGHT
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.messages import Batches, RunReport
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import CAPABILITIES, LOCAL_STRATEGIES
from tests.runhost.conftest import CONFIG

pytestmark = pytest.mark.long

PLAN = Plan(
    workload="loops",
    kernel="cython",
    strategy=StrategyName.MULTIPROCESSING,
    items=GeneratedItems(10),
    stages=(),
    parameters={"cpu_iterations": 1, "outer_iterations": 1, "inner_iterations": 1},
    batch_size=5,
    workers=2,
    io_concurrency=1,
)


async def drop(event: Batches) -> None:
    assert event.results


async def executed(host: RunHostClient) -> RunReport:
    events = [event async for event in host.run(PLAN)]
    report = events[-1]
    assert isinstance(report, RunReport)
    return report


def test_every_constant_is_measured(host: RunHostClient, runner: asyncio.Runner) -> None:
    async def check() -> None:
        before = await executed(host)
        shares: list[float] = []
        found = await host.calibrate(drop, shares.append)
        assert shares == sorted(shares)
        assert len(shares) > 100
        assert shares[0] == 0
        assert shares[-1] == pytest.approx(1)
        assert found.usable_cpus == CONFIG.usable_cpus
        assert (found.max_threads, found.max_processes) == (8, 2)
        assert {kernel.kernel for kernel in found.kernels} == set(
            kernels.available_kernels("loops")
        )
        for kernel in found.kernels:
            assert kernel.sizes[0] == 1
            assert list(kernel.sizes) == sorted(set(kernel.sizes))
            assert set(kernel.operation_seconds) == {"loop", "nested"}
            for by_size in kernel.operation_seconds.values():
                assert len(by_size) == len(kernel.sizes)
                assert 0 < by_size[-1] == min(by_size) <= max(by_size) < 1e-3
            assert 1 <= kernel.thread_slowdown <= 2
            assert 1 <= kernel.process_slowdown <= 2
        python, cython = found.kernel("loops", "python"), found.kernel("loops", "cython")
        assert python.operation_seconds["loop"][0] > 10 * cython.operation_seconds["loop"][0]
        assert set(found.strategies) == set(LOCAL_STRATEGIES)
        for name, costs in found.strategies.items():
            in_processes = name in (StrategyName.MULTIPROCESSING, StrategyName.CONCURRENT_FUTURES)
            assert costs.start_seconds > 0
            assert 0 < costs.empty_batch_seconds < 0.1
            assert 0 <= costs.full_batch_seconds < 0.1
            assert 0 <= costs.worker_seconds < 0.1
            assert costs.full_seconds > 0
            if not CAPABILITIES[StrategyName(name)].parallel:
                assert costs.worker_seconds == costs.full_batch_seconds
            assert (costs.worker_bytes > 1 << 20) == in_processes
        assert all(0 <= cost < 1 << 20 for cost in asdict(found.waits).values())
        assert found.waits.in_flight_bytes > 0
        assert set(found.loops) == {StrategyName.ASYNC_BATCH, StrategyName.HYBRID}
        for loop in found.loops.values():
            assert 0 <= loop.task_seconds < 1e-3
            assert len(loop.item_seconds) == len(loop.stage_seconds) == len(IN_FLIGHT)
            for ascending in (loop.item_seconds, loop.stage_seconds):
                assert list(ascending) == sorted(ascending)
            assert loop.item_seconds[0] > 0 <= loop.stage_seconds[0]
            assert loop.item_seconds[-1] + loop.stage_seconds[-1] < 1e-3
            assert 0 <= loop.batch_seconds < 0.1
        assert found.base_bytes > 1 << 20
        assert found.seconds > 0
        # Pools of the run host were not touched.
        after = await executed(host)
        assert (before.error, after.error) == (None, None)

    runner.run(check())


def test_death_of_the_run_host_ends_calibrating_with_an_error(
    host: RunHostClient, runner: asyncio.Runner
) -> None:
    shares: list[float] = []

    async def check() -> None:
        calibrating = asyncio.create_task(host.calibrate(drop, shares.append))
        await asyncio.sleep(0)
        await host.kill()
        with pytest.raises(RunHostDiedError):
            await calibrating

    runner.run(check())


def test_cancelled_calibration_ends_its_host(host: RunHostClient, runner: asyncio.Runner) -> None:
    shares: list[float] = []

    async def check() -> None:
        calibrating = asyncio.create_task(host.calibrate(drop, shares.append))
        await asyncio.sleep(0)
        calibrating.cancel()
        await asyncio.wait((calibrating,))
        assert calibrating.cancelled()
        assert not host.alive

    runner.run(check())
