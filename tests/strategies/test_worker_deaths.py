"""`strategies.process_pool`, `strategies.worker_process`: batches of dead workers are retried
within a bound.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from contextlib import aclosing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from hotloop.app.errors import WorkerCrashedError
from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Strategy
from hotloop.app.strategies.nursery import Nursery
from hotloop.app.strategies.pools import ExecutorPool, MultiprocessingPool
from hotloop.app.strategies.process_pool import ProcessPool, WorkersDiedError
from hotloop.app.strategies.worker import run_batch
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.stages import DeadlyItems, EndlessStage, byte_count
from tests.fixtures.waiting import until

pytestmark = pytest.mark.long


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
def test_batches_of_a_dead_worker_are_recomputed(
    runner: asyncio.Runner, process_strategy: Strategy, how: str, tmp_path: Path
) -> None:
    deaths = str(tmp_path / "deaths")
    plan = make_plan(process_strategy.name, items=DeadlyItems(500, 250, deaths, times=2, how=how))

    async def run() -> int:
        await process_strategy.prepare(plan)
        results = [result async for result in process_strategy.run(plan)]
        assert sorted(r.batch.index for r in results) == list(range(5))
        return total_checksum(results)

    assert runner.run(run()) == expected_checksum(
        make_plan(process_strategy.name, items=GeneratedItems(500))
    )
    assert byte_count(deaths) == 2


def test_batch_that_always_kills_its_worker_fails(
    runner: asyncio.Runner, process_strategy: Strategy, tmp_path: Path
) -> None:
    deaths = str(tmp_path / "deaths")
    plan = make_plan(
        process_strategy.name, items=DeadlyItems(500, 250, deaths, times=100), max_batch_retries=2
    )

    async def run() -> None:
        await process_strategy.prepare(plan)
        async with aclosing(process_strategy.run(plan)) as results:
            async for _ in results:
                pass

    with pytest.raises(WorkerCrashedError, match="SIGKILL") as caught:
        runner.run(run())
    assert caught.value.attempts == 3
    assert byte_count(deaths) == 3


def test_killed_idle_workers_are_replaced_before_the_next_run(
    runner: asyncio.Runner, process_strategy: Strategy
) -> None:
    """The killed worker may hold the lock of the task queue."""
    plan = make_plan(process_strategy.name, items=GeneratedItems(300))

    async def run() -> int:
        await process_strategy.prepare(plan)
        workers = multiprocessing.active_children()
        for worker in workers:
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: not any(w.is_alive() for w in workers), "the workers are dead")
        await process_strategy.prepare(plan)
        return total_checksum([result async for result in process_strategy.run(plan)])

    assert runner.run(run()) == expected_checksum(plan)


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_multiprocessing_pool_survives_the_death_of_any_worker(
    runner: asyncio.Runner, victim: int, tmp_path: Path
) -> None:
    """The three workers are busy, holding the queue's lock, and waiting for that lock."""
    nursery = Nursery()
    pool = MultiprocessingPool(nursery)
    started = str(tmp_path / "started")
    endless = make_plan(StrategyName.MULTIPROCESSING, stages=(EndlessStage(started),))

    async def run() -> None:
        await pool.ensure(3, endless)
        before = pool.generation
        waiting = asyncio.create_task(pool.submit(run_batch, endless, Batch(0, 0, 10)))
        await until(lambda: byte_count(started) > 0, "the batch is in work")
        pids = sorted(p.pid or 0 for p in multiprocessing.active_children() if "Pool" in p.name)
        os.kill(pids[-3:][victim], signal.SIGKILL)
        with pytest.raises(WorkersDiedError, match="SIGKILL"):
            await waiting
        await pool.rebuild(before, endless)
        assert pool.generation == before + 1
        await pool.discard()
        nursery.close()

    runner.run(run())


@pytest.mark.parametrize("make", [ExecutorPool, MultiprocessingPool])
@pytest.mark.parametrize("victim", [0, 1])
def test_worker_killed_at_its_start_is_noticed_at_once(
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    make: type[ProcessPool],
    victim: int,
) -> None:
    """And not when the others give up waiting for it, two minutes later."""
    start = BaseProcess.start

    started: list[int] = []

    def start_slowly(process: BaseProcess) -> None:
        start(process)
        assert process.pid is not None
        started.append(process.pid)
        if len(started) == victim + 1:
            os.kill(process.pid, signal.SIGKILL)
        time.sleep(0.1)  # the pool's threads have their turn now, as on a busy machine

    monkeypatch.setattr(BaseProcess, "start", start_slowly)
    nursery = Nursery()
    pool = make(nursery)
    plan = make_plan(StrategyName.CONCURRENT_FUTURES)

    async def run() -> None:
        await pool.ensure(2, plan)
        assert len(pool.pids) == 2
        assert started[victim] not in pool.pids
        assert await pool.submit(os.getpid) in pool.pids
        await pool.discard()
        nursery.close()

    runner.run(run())
