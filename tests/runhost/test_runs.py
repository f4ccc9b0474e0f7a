"""runhost.host, runhost.execution: results, measurements, deadline, cancelling of real runs."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from hotloop import kernels
from hotloop.app.errors import (
    ErrorRateExceededError,
    RunCancelledError,
    RunHostDiedError,
    RunTimeoutError,
)
from hotloop.app.names import StrategyName
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.messages import Batches, Progress, RunReport, RunStarted
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult, Plan
from hotloop.app.strategies.registry import CAPABILITIES, LOCAL_STRATEGIES
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.processes import pool_workers
from tests.fixtures.stages import CountedItems, EndlessStage, FailingStage, byte_count
from tests.fixtures.waiting import until
from tests.runhost.conftest import start_host

pytestmark = pytest.mark.long


async def collect(host: RunHostClient, plan: Plan) -> list[Any]:
    return [event async for event in host.run(plan)]


async def run(host: RunHostClient, plan: Plan) -> tuple[list[BatchResult], RunReport]:
    events = await collect(host, plan)
    assert isinstance(events[0], RunStarted)
    batches = [event for event in events[1:-1] if not isinstance(event, Progress)]
    assert all(isinstance(event, Batches) for event in batches)
    return [r for event in batches for r in event.results], events[-1]


def test_ready_reports_every_kernel_measured(host: RunHostClient) -> None:
    assert host.ready is not None
    reports = {r.kernel: r for r in host.ready.kernels}
    assert list(reports) == list(kernels.known_kernels("loops"))
    for name in kernels.available_kernels("loops"):
        assert reports[name].available
        assert set(reports[name].ns_per_operation) == {"loop", "nested"}
        assert all(ns > 0 for ns in reports[name].ns_per_operation.values())


def test_every_strategy_runs_and_is_measured(runner: asyncio.Runner, host: RunHostClient) -> None:
    for strategy in LOCAL_STRATEGIES:
        plan = make_plan(strategy, items=GeneratedItems(5_000), batch_size=700)
        results, report = runner.run(run(host, plan))
        assert report.error is None
        assert total_checksum(results) == expected_checksum(plan)
        assert (report.measured.duration_seconds or 0) > 0
        assert (report.measured.cpu_seconds or 0) > 0
        assert 0 < (report.measured.cpu_utilization or 0) <= 1
        in_processes = not CAPABILITIES[strategy].shares_memory
        assert ((report.measured.peak_memory_bytes or 0) > 10_000_000) is in_processes
        assert report.measured.effective_workers == (2 if CAPABILITIES[strategy].parallel else 1)


def test_cpu_of_worker_processes_counts(runner: asyncio.Runner, host: RunHostClient) -> None:
    """The kernel's CPU seconds are spent in children that are still alive when the run ends."""
    parameters = {"cpu_iterations": 20_000, "outer_iterations": 0, "inner_iterations": 0}
    plan = make_plan(
        StrategyName.MULTIPROCESSING,
        items=GeneratedItems(200),
        batch_size=10,
        parameters=parameters,
    )
    _, report = runner.run(run(host, plan))
    before = time.process_time()
    kernels.get_kernel("loops", "python").run(plan.items.load("loops", 0, 20).columns, parameters)
    assert (report.measured.cpu_seconds or 0) > 0.5 * 10 * (time.process_time() - before)


def test_cold_run_finds_no_pool_and_a_warm_one_does(
    runner: asyncio.Runner, host: RunHostClient
) -> None:
    plan = make_plan(StrategyName.CONCURRENT_FUTURES)

    def workers(cold: bool) -> set[int]:
        async def finish() -> None:
            async for _ in host.run(plan, cold=cold):
                pass

        runner.run(finish())
        return {process.pid for process in pool_workers(host.pid)}

    first, kept, renewed = workers(False), workers(False), workers(True)
    assert len(first) == len(renewed) == 2
    assert kept == first
    assert not renewed & first


def test_deadline_ends_a_run_and_keeps_the_run_host(
    runner: asyncio.Runner, host: RunHostClient, tmp_path: Path
) -> None:
    for strategy in LOCAL_STRATEGIES:
        # The first sets up the pools: the deadline counts from the request on.
        runner.run(run(host, make_plan(strategy)))
        stages = (EndlessStage(str(tmp_path / "x")),)
        _, report = runner.run(run(host, make_plan(strategy, stages=stages, timeout_seconds=0.2)))
        assert isinstance(report.error, RunTimeoutError)
        assert (report.measured.duration_seconds or 0) > 0
        assert host.alive


def test_deadline_within_the_set_up_ends_a_run_and_the_next_one_works(
    runner: asyncio.Runner, host: RunHostClient
) -> None:
    for strategy in (StrategyName.MULTIPROCESSING, StrategyName.CONCURRENT_FUTURES):
        plan = make_plan(strategy, timeout_seconds=0.001)
        events = runner.run(collect(host, plan))
        assert isinstance(events[-1].error, RunTimeoutError)
        plan = make_plan(strategy)
        assert total_checksum(runner.run(run(host, plan))[0]) == expected_checksum(plan)


def test_error_rate_above_the_bound_ends_a_run_early(
    runner: asyncio.Runner, host: RunHostClient
) -> None:
    stage = FailingStage(every=2)
    plan = make_plan(StrategyName.SEQUENTIAL, stages=(stage,), batch_size=10, max_error_rate=0.1)
    results, report = runner.run(run(host, plan))
    assert isinstance(report.error, ErrorRateExceededError)
    assert sum(len(r.errors) for r in results) == 105  # the first batch over 10 % of 1,000
    within = make_plan(StrategyName.SEQUENTIAL, stages=(stage,), max_error_rate=0.5)
    assert runner.run(run(host, within))[1].error is None


def test_cancelled_run_keeps_finished_items(
    runner: asyncio.Runner, host: RunHostClient, tmp_path: Path
) -> None:
    started = str(tmp_path / "started")

    async def cancel(strategy: StrategyName) -> RunReport:
        before = byte_count(started)
        plan = make_plan(strategy, stages=(EndlessStage(started),))
        task = asyncio.create_task(run(host, plan))
        await until(lambda: byte_count(started) > before, "an item waits")
        await host.cancel()
        return (await task)[1]

    for strategy in LOCAL_STRATEGIES:
        report = runner.run(cancel(strategy))
        assert isinstance(report.error, RunCancelledError), strategy
    assert host.alive
    # and it works on
    plan = make_plan(StrategyName.HYBRID)
    assert total_checksum(runner.run(run(host, plan))[0]) == expected_checksum(plan)


def test_cancel_without_a_run_does_nothing(runner: asyncio.Runner, host: RunHostClient) -> None:
    runner.run(host.cancel())
    plan = make_plan(StrategyName.SEQUENTIAL)
    assert runner.run(run(host, plan))[1].error is None


def test_uncommon_error_in_a_stage_does_not_reach_the_client(
    runner: asyncio.Runner, host: RunHostClient
) -> None:
    plan = make_plan(StrategyName.HYBRID, stages=(FailingStage(every=1),))
    results, _ = runner.run(run(host, plan))
    assert not any("secret" in e.reason for r in results for e in r.errors)


@pytest.mark.parametrize("strategy", [StrategyName.THREADING, StrategyName.SEQUENTIAL])
def test_batch_that_outlasts_the_grace_costs_the_run_host(
    runner: asyncio.Runner, strategy: StrategyName, tmp_path: Path
) -> None:
    """A thread cannot be killed; its process can."""
    endless = {"cpu_iterations": 10_000_000, "outer_iterations": 0, "inner_iterations": 0}

    async def cancel() -> None:
        host = await start_host(cancel_grace_seconds=0.2)
        loads = str(tmp_path / "loads")
        plan = make_plan(strategy, parameters=endless, items=CountedItems(1_000, loads))
        events = host.run(plan)
        assert isinstance(await anext(events), RunStarted)
        await until(lambda: byte_count(loads) > 0, "a batch is on its way into the kernel")
        await host.cancel()
        with pytest.raises(RunHostDiedError, match="SIGKILL"):
            await anext(events)
        assert not host.alive

    runner.run(cancel())


LARGE = 1_000_000
NO_WORK = {"cpu_iterations": 0, "outer_iterations": 0, "inner_iterations": 0}


@pytest.mark.parametrize("strategy", [StrategyName.SEQUENTIAL, StrategyName.MULTIPROCESSING])
def test_peak_memory_excludes_earlier_runs(
    runner: asyncio.Runner, host: RunHostClient, strategy: StrategyName
) -> None:
    """A million items take 40 MB and more, in and out."""

    def peak(count: int) -> int:
        plan = make_plan(
            strategy,
            kernel="cython",
            parameters=NO_WORK,
            items=GeneratedItems(count),
            batch_size=count,
        )
        return runner.run(run(host, plan))[1].measured.peak_memory_bytes or 0

    first, large, small, again, last = map(peak, (1, LARGE, 1, LARGE, 1))
    assert first < 60_000_000
    assert large - first > 40_000_000
    assert abs(again - large) < 0.5 * large
    for later in (small, last):
        assert later - first < 20_000_000
    # The other strategies take none of the pool that is there by now.
    plan = make_plan(StrategyName.THREADING, items=GeneratedItems(1), batch_size=1)
    assert (runner.run(run(host, plan))[1].measured.peak_memory_bytes or 0) < 20_000_000


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_progress_is_told_within_a_batch(
    runner: asyncio.Runner, host: RunHostClient, strategy: StrategyName
) -> None:
    """A batch of about two seconds is computed in slices, and moves twice a second."""
    sequential = make_plan(
        strategy,
        items=GeneratedItems(400),
        batch_size=400,
        parameters={"cpu_iterations": 20_000, "outer_iterations": 0, "inner_iterations": 0},
        slice_items=20,
    )
    events = runner.run(collect(host, sequential))
    told = [event.items_passed for event in events if isinstance(event, Progress)]
    assert told
    assert told == sorted(set(told))
    assert told[0] > 0
    assert told[-1] <= 400
    (batches,) = (event for event in events if isinstance(event, Batches))
    assert events.index(batches) > max(n for n, e in enumerate(events) if isinstance(e, Progress))
