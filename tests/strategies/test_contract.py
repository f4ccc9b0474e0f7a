"""strategies.registry, batchwise, hybrid, batching: promises of every strategy."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import BatchResult, Plan, Strategy
from hotloop.app.strategies.batching import batch_count, iter_batches, window_size
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import CAPABILITIES, LOCAL_STRATEGIES, STRATEGIES
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.processes import worker_threads
from tests.fixtures.stages import CountedItems, EndlessStage, FailingStage, byte_count
from tests.fixtures.waiting import until

KERNELS = kernels.available_kernels("loops")

RANGES = [
    ((0, 20), (40, 20), (200, 3)),
    ((60, 40), (120, 60)),
]
"""Missing ranges of 203 items in batches of 20; gaps begin and end with a batch."""


async def run(strategy: Strategy, plan: Plan) -> list[BatchResult]:
    await strategy.prepare(plan)
    return [result async for result in strategy.run(plan)]


def test_registry_has_every_strategy_in_order_with_its_own_name(pools: Pools) -> None:
    assert list(STRATEGIES) == list(CAPABILITIES) == list(StrategyName)
    for name, make in STRATEGIES.items():
        strategy = make(pools)
        assert strategy.name is name
        assert strategy.capabilities is CAPABILITIES[name]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 2), (7, 1), (64, 3), (1_000, 2)])
def test_bits_are_those_of_one_direct_kernel_call(
    runner: asyncio.Runner, strategy: Strategy, kernel: str, batch_size: int, workers: int
) -> None:
    plan = make_plan(
        strategy.name,
        kernel=kernel,
        items=GeneratedItems(203),
        batch_size=batch_size,
        workers=workers,
    )
    results = runner.run(run(strategy, plan))

    assert sorted(r.batch.index for r in results) == list(range(-(-203 // batch_size)))
    item_ids = np.concatenate([r.item_ids for r in sorted(results, key=lambda r: r.batch.start)])
    assert np.array_equal(item_ids, np.arange(203))
    assert total_checksum(results) == expected_checksum(plan)


@pytest.mark.parametrize("stages", [(), (SimulatedStage("db", 0.0001, 0.0001),)])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("ranges", RANGES, ids=str)
def test_ranges_are_executed_and_nothing_else_with_the_same_bits(
    runner: asyncio.Runner,
    strategy: Strategy,
    kernel: str,
    ranges: tuple[tuple[int, int], ...],
    stages: tuple[SimulatedStage, ...],
    tmp_path: Path,
) -> None:
    """A resumed run computes the missing batches of the whole run."""
    loads = str(tmp_path / "loads")
    plan = make_plan(
        strategy.name,
        kernel=kernel,
        items=CountedItems(203, loads),
        stages=stages,
        batch_size=20,
        ranges=ranges,
    )
    results = runner.run(run(strategy, plan))
    inputs = GeneratedItems(203).load(plan.workload, 0, 203)
    every = kernels.get_kernel(plan.workload, kernel).run(inputs.columns, plan.parameters)

    positions = [n for start, count in ranges for n in range(start, start + count)]
    done = sorted(results, key=lambda result: result.batch.start)
    assert [n for result in done for n in result.item_ids.tolist()] == positions
    assert plan.item_count == len(positions)
    assert batch_count(plan) == len(results) == byte_count(loads)
    assert {result.batch for result in results} <= set(iter_batches(replace(plan, ranges=None)))
    for result in results:
        assert not result.failed.any()
        assert list(result.columns) == list(every)
        for name, column in result.columns.items():
            assert column.tobytes() == every[name][result.item_ids].tobytes()


def test_no_ranges_are_no_work(runner: asyncio.Runner, strategy: Strategy) -> None:
    for stages in ((), (SimulatedStage("db", 0.0001, 0.0001),)):
        plan = make_plan(strategy.name, stages=stages, ranges=())
        assert runner.run(run(strategy, plan)) == []


def test_waiting_for_io_changes_no_bit_and_is_reported(
    runner: asyncio.Runner, strategy: Strategy
) -> None:
    stages = (SimulatedStage("db", 0.002, 0.002), SimulatedStage("cache", 0.0, 0.002))
    plan = make_plan(
        strategy.name, items=GeneratedItems(60), stages=stages, batch_size=25, io_concurrency=10
    )
    results = runner.run(run(strategy, plan))

    assert total_checksum(results) == expected_checksum(plan)
    # 60 items of at least 2 ms, at most 10 of them waiting at once
    assert sum(r.io_seconds for r in results) >= 60 * 0.002 / 10


@pytest.mark.parametrize("kernel", KERNELS)
def test_failing_items_are_reported_and_not_fatal(
    runner: asyncio.Runner, strategy: Strategy, kernel: str
) -> None:
    plan = make_plan(
        strategy.name, kernel=kernel, items=GeneratedItems(50), stages=(FailingStage(every=5),)
    )
    results = runner.run(run(strategy, plan))

    errors = {e.item_id: e for r in results for e in r.errors}
    assert sorted(errors) == list(range(0, 50, 5))
    assert {e.stage for e in errors.values()} == {"db"}
    assert errors[10].reason == "no row for 10"
    assert errors[5].reason == (
        "an unexpected RuntimeError; the log of the service has the details"
    )
    failed = {int(i) for r in results for i in r.item_ids[r.failed]}
    assert failed == set(errors)
    assert total_checksum(results) == expected_checksum(plan, failing_every=5)


def test_input_is_consumed_lazily(runner: asyncio.Runner, strategy: Strategy) -> None:
    """A run of 10**12 items gives its first results at once."""
    plan = make_plan(strategy.name, items=GeneratedItems(10**12), batch_size=10)

    async def first_three() -> list[BatchResult]:
        await strategy.prepare(plan)
        async with aclosing(strategy.run(plan)) as results:
            return [await anext(results) for _ in range(3)]

    assert len(runner.run(first_three())) == 3


@pytest.mark.parametrize("stages", [(), (SimulatedStage("db", 0.0001, 0.0001),)])
def test_batches_in_flight_are_bounded(
    runner: asyncio.Runner,
    strategy: Strategy,
    stages: tuple[SimulatedStage, ...],
    tmp_path: Path,
) -> None:
    """However slowly results are taken, few batches more than those are loaded."""
    loads = str(tmp_path / "loads")
    plan = make_plan(
        strategy.name,
        items=CountedItems(300, loads),
        stages=stages,
        batch_size=5,
        io_concurrency=10,
    )
    bound = 2 * window_size(plan.workers) + plan.io_concurrency // plan.batch_size + 2

    async def ahead() -> int:
        await strategy.prepare(plan)
        worst = taken = 0
        async for _ in strategy.run(plan):
            taken += 1
            await asyncio.sleep(0.004)  # a slow consumer
            worst = max(worst, byte_count(loads) - taken)
        assert taken == 60
        return worst

    assert runner.run(ahead()) <= bound


def test_cancelled_while_waiting_for_io_nothing_goes_on(
    runner: asyncio.Runner, strategy: Strategy, tmp_path: Path
) -> None:
    started = str(tmp_path / "started")
    endless = make_plan(strategy.name, stages=(EndlessStage(started),))

    async def cancel_midway() -> None:
        await strategy.prepare(endless)
        task = asyncio.create_task(first_result(strategy, endless))
        await until(lambda: byte_count(started) > 0, "an item waits for its I/O")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiting = byte_count(started)
        # The pool is free: another run completes, and no item of the first has begun meanwhile.
        plan = make_plan(strategy.name, items=GeneratedItems(20), batch_size=5)
        assert total_checksum(await run(strategy, plan)) == expected_checksum(plan)
        assert byte_count(started) == waiting

    runner.run(cancel_midway())


async def first_result(strategy: Strategy, plan: Plan) -> BatchResult:
    async with aclosing(strategy.run(plan)) as results:
        return await anext(results)


def test_effective_workers_are_bounded_by_batches_and_limits(
    runner: asyncio.Runner, strategy: Strategy
) -> None:
    parallel = strategy.capabilities.parallel
    plan = make_plan(strategy.name, workers=200, kernel="python", batch_size=1)
    workers = runner.run(strategy.prepare(plan))
    threads = strategy.name is StrategyName.THREADING
    most = 2 if strategy.name in CLUSTERS else 8 if threads else 3
    assert workers == (most if parallel else 1)

    few = make_plan(strategy.name, workers=3, items=GeneratedItems(150))
    assert runner.run(strategy.prepare(few)) == (2 if parallel else 1)


def test_kernel_of_hybrid_decides_between_threads_and_processes(
    runner: asyncio.Runner, strategies: dict[StrategyName, Strategy]
) -> None:
    hybrid = strategies[StrategyName.HYBRID]
    for kernel in KERNELS:
        plan = make_plan(hybrid.name, kernel=kernel, workers=200, batch_size=1)
        expected = 8 if kernels.get_kernel("loops", kernel).releases_gil else 3
        assert runner.run(hybrid.prepare(plan)) == expected


def test_pools_closed_leave_no_thread_behind(runner: asyncio.Runner) -> None:
    before = set(worker_threads())

    async def use_and_close() -> None:
        pools = Pools(PoolLimits(threads=4, processes=2, cpus=2))
        strategies = [STRATEGIES[name](pools) for name in LOCAL_STRATEGIES]
        for strategy in strategies:
            await run(strategy, make_plan(strategy.name, items=GeneratedItems(20)))
        for strategy in strategies:
            await strategy.close()
        await pools.close()

    runner.run(use_and_close())
    assert set(worker_threads()) == before
