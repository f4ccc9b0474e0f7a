"""strategies.cluster.driver_process, driver: real drivers of clusters that are not there, or that
die. Real clusters are in test_contract.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hotloop.app.errors import ClusterLostError
from hotloop.app.names import StrategyName
from hotloop.app.strategies.cluster.driver_process import (
    SILENT_SECONDS,
    DriverProcess,
    WorkerLostError,
)
from hotloop.app.strategies.cluster.protocol import ClusterConfig
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from tests.fixtures.clusters import Cluster, running
from tests.fixtures.guarded import free_port
from tests.fixtures.plans import make_plan
from tests.fixtures.waiting import in_loop, until


@asynccontextmanager
async def driver_of(engine: str, address: str) -> AsyncIterator[DriverProcess]:
    driver = DriverProcess(ClusterConfig(engine, address, 1))
    try:
        yield driver
    finally:
        await driver.close()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@in_loop
async def test_engine_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "distributed.py").write_text("raise ImportError('no module distributed')")
    monkeypatch.syspath_prepend(tmp_path)
    before = children()
    async with driver_of("dask", "tcp://127.0.0.1:1") as driver:
        for _ in range(2):
            with pytest.raises(ClusterLostError, match="install `hotloop\\[dask\\]`") as caught:
                await driver.ensure()
            assert "dask cannot be imported (no module distributed)" in str(caught.value)
            assert (driver.pids, driver.workers) == ([], 0)
            assert children() <= before


@pytest.mark.long
@in_loop
async def test_address_that_refuses_connections_is_a_lost_cluster_each_time() -> None:
    before = children()
    async with driver_of("dask", f"tcp://127.0.0.1:{free_port()}") as driver:
        for _ in range(2):
            with pytest.raises(ClusterLostError, match="the dask cluster is lost: ") as caught:
                await driver.ensure()
            assert "/health/ready" in str(caught.value)
            assert (driver.pids, driver.workers) == ([], 0)
            assert children() <= before
            with pytest.raises(ClusterLostError):
                await driver.prepare(b"")
            with pytest.raises(ClusterLostError):
                await driver.compute(b"")


@in_loop
async def test_strategy_without_a_driver_is_lost() -> None:
    pools = Pools(PoolLimits(2, 2, 2))
    with pytest.raises(ClusterLostError, match="no address is configured"):
        await STRATEGIES[StrategyName.RAY](pools).prepare(make_plan(StrategyName.RAY))
    await pools.close()


@in_loop
async def test_cancelled_start_leaves_no_driver() -> None:
    """The scheduler accepts connections, and says nothing."""
    before = children()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        async with driver_of("dask", address) as driver:
            starting = asyncio.create_task(driver.ensure())
            await until(lambda: driver.pids, "the driver is started")
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await starting
            assert driver.pids == []
            assert children() <= before


Check = Callable[[Cluster, DriverProcess, int], Coroutine[Any, Any, None]]


def with_driver(folder: Path, check: Check) -> None:
    """Call `check` with a Dask cluster, a driver that is connected to it, and the driver's pid."""
    with running("dask", folder) as cluster:

        @in_loop
        async def connected() -> None:
            async with driver_of("dask", cluster.address) as driver:
                await driver.ensure()
                (first,) = driver.pids
                await check(cluster, driver, first)

        connected()


@pytest.mark.long
def test_driver_that_is_killed_is_replaced(tmp_path: Path) -> None:
    async def check(cluster: Cluster, driver: DriverProcess, first: int) -> None:
        asked = asyncio.create_task(driver.prepare(b"no pickle"))
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ClusterLostError, match=r"the driver died \(signal SIGKILL"):
            await asked
        await until(lambda: driver.pids == [], "its end is seen")
        assert not psutil.pid_exists(first)
        await driver.ensure()
        assert driver.pids not in ([], [first])
        assert driver.workers >= 1

    with_driver(tmp_path, check)


@pytest.mark.long
def test_driver_that_hangs_is_given_up_and_killed(tmp_path: Path) -> None:
    async def check(cluster: Cluster, driver: DriverProcess, first: int) -> None:
        os.kill(first, signal.SIGSTOP)
        words = f"it did not answer for {SILENT_SECONDS:g} s"
        with pytest.raises((ClusterLostError, WorkerLostError), match=words):
            await driver.compute(b"")
        await until(lambda: not psutil.pid_exists(first), "it is killed")
        await driver.ensure()
        assert driver.pids not in ([], [first])

    with_driver(tmp_path, check)


@pytest.mark.long
def test_cluster_whose_head_dies_is_lost(tmp_path: Path) -> None:
    async def check(cluster: Cluster, driver: DriverProcess, first: int) -> None:
        cluster.kill_head()
        await until(lambda: driver.pids == [], "the loss is seen")
        with pytest.raises(ClusterLostError):
            await driver.prepare(b"")
        assert not psutil.pid_exists(first)

    with_driver(tmp_path, check)
