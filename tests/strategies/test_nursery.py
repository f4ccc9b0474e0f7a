"""strategies.nursery, fork_server, worker_process: workers are forked with their kernel."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotloop.app.names import StrategyName
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies import nursery as nursery_module
from hotloop.app.strategies.nursery import ForkingContext, Nursery
from hotloop.app.strategies.pools import ExecutorPool, MultiprocessingPool, PoolLimits, Pools
from hotloop.app.strategies.process_pool import ProcessPool
from hotloop.app.strategies.registry import STRATEGIES
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.processes import is_gone
from tests.fixtures.waiting import until

pytestmark = pytest.mark.long

WAITS = (SimulatedStage("db", 0.0001, 0.0001),)
PYTHON, NUMBA = ("loops", "python"), ("loops", "numba")
forking = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="workers are spawned")


def thread_count_of_parent() -> int:
    return int(psutil.Process(os.getppid()).num_threads())


@forking
@pytest.mark.parametrize("make", [ExecutorPool, MultiprocessingPool])
def test_workers_come_from_one_process_with_one_thread(
    runner: asyncio.Runner, make: type[ProcessPool]
) -> None:
    nursery = Nursery()
    pool = make(nursery)

    async def run() -> None:
        await pool.ensure(3, make_plan(StrategyName.MULTIPROCESSING))
        assert len(set(pool.pids)) == 3
        assert {psutil.Process(pid).ppid() for pid in pool.pids} == {nursery.pid}
        assert await pool.submit(thread_count_of_parent) == 1
        await pool.discard()

    runner.run(run())
    nursery.close()
    assert nursery.pid is None


@forking
def test_server_is_replaced_only_for_a_new_kernel() -> None:
    nursery = Nursery()
    first = nursery.server_for(PYTHON)
    assert nursery.server_for(PYTHON) is first
    both = nursery.server_for(NUMBA)
    assert both is not first
    assert nursery.server_for(PYTHON) is nursery.server_for(NUMBA) is both
    nursery.close()


@forking
def test_workers_find_their_kernel_compiled(runner: asyncio.Runner) -> None:
    """A pool of a kernel that the server had not is made anew, and then serves both."""
    nursery = Nursery()
    pool = ExecutorPool(nursery)

    async def run() -> None:
        await pool.ensure(2, make_plan(StrategyName.CONCURRENT_FUTURES))
        assert not await pool.submit(numba_is_loaded)
        await pool.ensure(2, make_plan(StrategyName.CONCURRENT_FUTURES, kernel="numba"))
        assert pool.generation == 2
        assert await pool.submit(numba_is_loaded)
        await pool.ensure(2, make_plan(StrategyName.CONCURRENT_FUTURES))
        assert pool.generation == 2
        await pool.discard()

    runner.run(run())
    nursery.close()


def numba_is_loaded() -> bool:
    """Return True if the kernel is compiled in the worker that calls this."""
    module: Any = sys.modules.get("hotloop.kernels.loops._numba")
    return module is not None and bool(module.loop.signatures)


@forking
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("make", [ExecutorPool, MultiprocessingPool])
def test_workers_end_with_their_server_and_the_next_run_has_others(
    runner: asyncio.Runner, make: type[ProcessPool]
) -> None:
    nursery = Nursery()
    pool = make(nursery)
    plan = make_plan(StrategyName.MULTIPROCESSING)

    async def run() -> None:
        await pool.ensure(2, plan)
        workers = [psutil.Process(pid) for pid in pool.pids]
        assert nursery.pid is not None
        gone = [psutil.Process(nursery.pid), *workers]
        os.kill(nursery.pid, signal.SIGKILL)
        await until(lambda: all(map(is_gone, gone)), "the server and its workers are gone")
        await pool.ensure(2, plan)
        assert pool.generation == 2
        assert await pool.submit(os.getppid) == nursery.pid
        await pool.discard()

    runner.run(run())
    nursery.close()


@forking
def test_worker_that_has_ended_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process id of an ended worker may be another process's by then."""
    nursery = Nursery()
    server = nursery.server_for(PYTHON)
    assert server is not None
    worker = ForkingContext(server).Process(target=os.getpid)
    worker.start()
    wait([worker.sentinel])
    signalled: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *to: signalled.append(to))
    worker.terminate()
    worker.kill()
    monkeypatch.undo()
    assert signalled == []
    assert worker.exitcode == 0
    nursery.close()


@forking
def test_fork_server_whose_run_host_is_gone_ends_without_a_word() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    tracker = resource_tracker.getfd()
    assert tracker is not None
    config = json.dumps(
        {"kernels": [], "instruction_set": None, "source": None, "memory_bytes": None}
    )
    command = [sys.executable, "-m", "hotloop.app.strategies.fork_server"]
    with theirs:
        ended = subprocess.run(
            [*command, str(theirs.fileno()), str(tracker), config],
            pass_fds=(theirs.fileno(), tracker),
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


@pytest.mark.parametrize("threads", [None, 2])
def test_workers_are_spawned_where_forking_is_not_known_to_be_safe(
    runner: asyncio.Runner,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    threads: int | None,
) -> None:
    if threads is None:
        monkeypatch.setattr(nursery_module, "thread_count", lambda: None)
    else:
        monkeypatch.setattr(json, "loads", lambda _: {"threads": threads})
    with caplog.at_level(logging.WARNING):
        nursery = Nursery()
        assert nursery.server_for(PYTHON) is None
    assert ("threads" in caplog.text) is (threads is not None)
    monkeypatch.undo()
    pool = ExecutorPool(nursery)

    async def run() -> None:
        await pool.ensure(1, make_plan(StrategyName.CONCURRENT_FUTURES))
        assert await pool.submit(os.getppid) == os.getpid()
        await pool.discard()

    runner.run(run())
    nursery.close()


@pytest.mark.parametrize(
    ("name", "kernel", "fields", "expected"),
    [
        (StrategyName.MULTIPROCESSING, "python", {"workers": 8}, 2),
        (StrategyName.MULTIPROCESSING, "python", {"workers": 8, "stages": WAITS}, 6),
        (StrategyName.CONCURRENT_FUTURES, "python", {"workers": 4, "stages": WAITS}, 4),
        (StrategyName.CONCURRENT_FUTURES, "python", {"workers": 8, "items": GeneratedItems(1)}, 1),
        # Its items wait on the event loop, and its processes do nothing but compute.
        (StrategyName.HYBRID, "python", {"workers": 8, "stages": WAITS}, 2),
    ],
)
def test_only_as_many_processes_are_started_as_have_something_to_do(
    runner: asyncio.Runner,
    name: StrategyName,
    kernel: str,
    fields: dict[str, Any],
    expected: int,
) -> None:
    """Six may be; there are two CPUs and ten batches."""
    pools = Pools(PoolLimits(threads=8, processes=6, cpus=2))
    strategy = STRATEGIES[name](pools)
    plan = make_plan(name, kernel=kernel, **fields)

    async def run() -> None:
        assert await strategy.prepare(plan) == expected
        assert sum(len(pool.pids) for pool in (pools.executor, pools.multiprocessing)) == expected
        results = [result async for result in strategy.run(plan)]
        assert total_checksum(results) == expected_checksum(plan)
        await pools.close()

    runner.run(run())


def test_larger_pool_is_kept_for_fewer_batches_and_not_for_fewer_workers(
    runner: asyncio.Runner,
) -> None:
    pools = Pools(PoolLimits(threads=8, processes=4, cpus=4))

    async def run() -> None:
        many = make_plan(StrategyName.MULTIPROCESSING, workers=3)
        one_batch = make_plan(StrategyName.MULTIPROCESSING, workers=3, items=GeneratedItems(1))
        two_workers = make_plan(StrategyName.MULTIPROCESSING, workers=2)
        pool, counts = pools.multiprocessing, []
        for plan in (one_batch, many, one_batch, two_workers):
            effective = await pools.ensure_processes(pool, plan)
            counts.append((effective, len(pool.pids), pool.generation))
        assert counts == [(1, 1, 1), (3, 3, 2), (1, 3, 2), (2, 2, 3)]
        await pools.close()

    runner.run(run())


@pytest.mark.parametrize("name", [StrategyName.MULTIPROCESSING, StrategyName.CONCURRENT_FUTURES])
def test_eight_workers_take_at_most_three_times_the_set_up_of_one(
    runner: asyncio.Runner, name: StrategyName
) -> None:
    """Compiling takes most of it, which happens once. The best of two rounds counts."""

    async def seconds(workers: int) -> float:
        pools = Pools(PoolLimits(threads=8, processes=8, cpus=2))
        plan = make_plan(name, kernel="numba", workers=workers, stages=WAITS)
        started = time.perf_counter()
        assert await STRATEGIES[name](pools).prepare(plan) == workers
        taken = time.perf_counter() - started
        await pools.close()
        return taken

    async def run() -> None:
        rounds = [(await seconds(1), await seconds(8)) for _ in range(2)]
        one, eight = (min(taken) for taken in zip(*rounds, strict=True))
        assert eight <= 3 * one, rounds

    runner.run(run())
