"""`strategies.registry`, `strategies.batching`: promises of every strategy with real servers as
sources.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Stage
from hotloop.app.sources.connections import close_connections
from hotloop.app.sources.resilience import Policy
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult, Plan, Strategy
from hotloop.app.strategies.batching import window_size
from hotloop.app.strategies.checksum import rows_checksum
from tests.fixtures.guarded import free_port
from tests.fixtures.pinot_broker import RunningBroker, running_broker
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.real_sources import pinot_columns, pinot_stage, redis_stage
from tests.fixtures.redis_server import RunningRedis, running_redis
from tests.fixtures.stages import CountedItems, byte_count
from tests.fixtures.waiting import until

COUNT = 60
POLICY = Policy(timeout_seconds=60.0, attempts=3, outage_seconds=60.0, run="a")


@pytest.fixture(scope="module")
def shared_broker(runner: asyncio.Runner) -> Iterator[RunningBroker]:
    with running_broker() as broker:
        yield broker
        runner.run(close_connections())


@pytest.fixture
def broker(shared_broker: RunningBroker) -> RunningBroker:
    shared_broker.control(None, reset=True)
    return shared_broker


@pytest.fixture(scope="module")
def redis(runner: asyncio.Runner) -> Iterator[RunningRedis]:
    """The first half of the items has an offset there."""
    with running_redis() as server:
        server.fill(COUNT // 2, key="item:{item_id}", value=lambda item_id: str(item_id + 1_000))
        yield server
        runner.run(close_connections())


def offsets_of_redis(ids: list[int]) -> list[int]:
    return [item_id + 1_000 if item_id < COUNT // 2 else 0 for item_id in ids]


async def run(strategy: Strategy, plan: Plan) -> list[BatchResult]:
    await strategy.prepare(plan)
    return [result async for result in strategy.run(plan)]


def checksum(plan: Plan, ids: list[int], values: list[float], offsets: list[int]) -> int:
    columns = {"value": np.array(values, dtype=np.float64), "offset": np.array(offsets)}
    outputs = kernels.get_kernel(plan.workload, plan.kernel).run(columns, plan.parameters)
    return rows_checksum(np.array(ids), outputs)


@pytest.mark.parametrize("group_size", [1, 7, 5_000])
def test_group_size_does_not_change_the_bits(
    runner: asyncio.Runner,
    strategy: Strategy,
    broker: RunningBroker,
    redis: RunningRedis,
    group_size: int,
) -> None:
    plan = make_plan(
        strategy.name,
        items=GeneratedItems(COUNT),
        stages=(pinot_stage(broker.url), redis_stage(redis.url)),
        batch_size=25,
        group_size=group_size,
        io_concurrency=20,
    )
    results = runner.run(run(strategy, plan))

    ids = list(range(COUNT))
    assert total_checksum(results) == checksum(
        plan, ids, pinot_columns(ids)[0], offsets_of_redis(ids)
    )
    asked = [r.counts["db"] for r in results], [r.counts["cache"] for r in results]
    assert [sum(c.hits for c in counts) for counts in asked] == [COUNT, COUNT // 2]
    assert [sum(c.misses for c in counts) for counts in asked] == [0, COUNT // 2]
    groups = 2 * -(-25 // min(group_size, 25)) + -(-10 // min(group_size, 10))
    calls = COUNT if strategy.name is StrategyName.SEQUENTIAL else groups
    assert [sum(c.calls for c in counts) for counts in asked] == [calls, calls]


def test_cache_aside_hit_avoids_the_query(
    runner: asyncio.Runner, strategy: Strategy, broker: RunningBroker, redis: RunningRedis
) -> None:
    fields = (("offset", "offset"),)
    plan = make_plan(
        strategy.name,
        items=GeneratedItems(COUNT),
        stages=(redis_stage(redis.url, aside=True), pinot_stage(broker.url, fields=fields)),
        batch_size=25,
        group_size=7,
    )
    results = runner.run(run(strategy, plan))

    ids = list(range(COUNT))
    values = plan.items.load("loops", 0, COUNT).columns["value"].tolist()
    half = COUNT // 2
    offsets = offsets_of_redis(ids)[:half] + pinot_columns(ids)[1][half:]
    assert total_checksum(results) == checksum(plan, ids, values, offsets)
    assert broker.counts()["ids_asked"] == half


def test_failing_items_and_failing_calls_are_reported(
    runner: asyncio.Runner, strategy: Strategy, broker: RunningBroker
) -> None:
    """The broker leaves an item out of each answer, and refuses one query in three."""
    plan = make_plan(
        strategy.name,
        items=GeneratedItems(COUNT),
        stages=(pinot_stage(broker.url),),
        batch_size=20,
        group_size=5,
    )
    for fault in ("missing_rows", "status_401"):
        broker.control(fault, every=3)
        results = runner.run(run(strategy, plan))
        errors = {error.item_id: error for r in results for error in r.errors}
        calls = sum(r.counts["db"].calls for r in results)
        size = 1 if strategy.name is StrategyName.SEQUENTIAL or fault == "missing_rows" else 5
        assert len(errors) == calls // 3 * size
        assert {error.stage for error in errors.values()} == {"db"}
        assert len({error.reason for error in errors.values()}) == 1
        good = [item_id for item_id in range(COUNT) if item_id not in errors]
        assert total_checksum(results) == checksum(plan, good, *pinot_columns(good))


def test_unreachable_server_fails_its_items(runner: asyncio.Runner, strategy: Strategy) -> None:
    policy = replace(POLICY, outage_seconds=0.0, attempts=1)
    plan = make_plan(
        strategy.name,
        items=GeneratedItems(COUNT),
        stages=(pinot_stage(f"http://127.0.0.1:{free_port()}", policy=policy),),
        batch_size=20,
        group_size=2,
    )
    results = runner.run(run(strategy, plan))
    errors = [error for r in results for error in r.errors]
    assert sorted(error.item_id for error in errors) == list(range(COUNT))
    assert all("pinot cannot be reached" in error.reason for error in errors)
    assert total_checksum(results) == 0


def test_batches_in_flight_are_bounded(
    runner: asyncio.Runner, strategy: Strategy, broker: RunningBroker, tmp_path: Path
) -> None:
    loads = str(tmp_path / "loads")
    plan = make_plan(
        strategy.name,
        items=CountedItems(300, loads),
        stages=(pinot_stage(broker.url),),
        batch_size=5,
        io_concurrency=10,
        group_size=5,
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


def stuck_stage(how: str, broker: RunningBroker) -> Stage:
    """Make a stage whose calls never end: in flight, or waiting for an open breaker."""
    changes: dict[str, Any] = {"policy": replace(POLICY, attempts=100), "connections": 100}
    if how == "in flight":
        broker.control("slow", delay_ms=60_000)
        return pinot_stage(broker.url, **changes)
    return redis_stage(f"redis://127.0.0.1:{free_port()}/0", **changes)


@pytest.mark.parametrize("how", ["breaker open", "in flight"])
def test_cancelled_run_leaves_no_call(
    runner: asyncio.Runner, strategy: Strategy, broker: RunningBroker, how: str
) -> None:
    """Batches of many groups, none of which may be waited for."""
    stage = stuck_stage(how, broker)
    plan = make_plan(strategy.name, stages=(stage,), batch_size=500, group_size=1)

    async def cancel_midway() -> None:
        await strategy.prepare(plan)
        tasks, connected = asyncio.all_tasks(), connected_to(broker)
        task = asyncio.create_task(first_result(strategy, plan))
        if how == "in flight":
            await until(lambda: broker.counts()["running"] > 0, "a query is in flight")
        else:
            await asyncio.sleep(0.3)  # in a worker process nobody sees the breaker open
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() <= tasks
        # Its pool is free.
        following = make_plan(strategy.name, items=GeneratedItems(20), batch_size=5)
        assert total_checksum(await run(strategy, following)) == expected_checksum(following)
        if how == "in flight":
            await until(lambda: connected_to(broker) <= connected, "no query is in flight")

    runner.run(cancel_midway())
    assert [t.name for t in threading.enumerate()].count("blocking-io") <= 1


def connected_to(broker: RunningBroker) -> int:
    """Connections, those that are kept for later among them."""
    found = psutil.Process(broker.process.pid).net_connections("tcp")
    return len([c for c in found if c.status == psutil.CONN_ESTABLISHED])


async def first_result(strategy: Strategy, plan: Plan) -> BatchResult:
    async with aclosing(strategy.run(plan)) as results:
        return await anext(results)
