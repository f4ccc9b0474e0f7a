"""observability.clusters: whether the port of a cluster is open, seen on real sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from hotloop.app.errors import ClusterLostError
from hotloop.app.names import LOCAL_CLUSTER, StrategyName
from hotloop.app.observability import clusters
from hotloop.app.observability.clusters import ClusterMonitor
from tests.fixtures.guarded import free_port
from tests.fixtures.waiting import in_loop, until

DASK, RAY, HYBRID = StrategyName.DASK, StrategyName.RAY, StrategyName.HYBRID
LOST = ClusterLostError("dask", "the scheduler did not answer for 3 s")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 0.2)


@pytest.fixture
def port() -> int:
    return free_port()


def listening(port: int) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


@asynccontextmanager
async def watching(**addresses: str) -> AsyncIterator[ClusterMonitor]:
    monitor = ClusterMonitor({StrategyName(name): text for name, text in addresses.items()})
    await monitor.start()
    yield monitor
    await monitor.close()


@in_loop
async def test_cluster_goes_down_and_comes_back_with_its_port(port: int) -> None:
    async with watching(dask=f"tcp://127.0.0.1:{port}") as monitor:
        assert not monitor.is_up(DASK)  # the first look is over when the service starts
        (first,) = monitor.views()
        assert (first.name, first.state) == (DASK, "down")
        assert "cannot be reached" in str(first.reason)
        with listening(port):
            await until(lambda: monitor.is_up(DASK), "it comes up")
            assert monitor.up() == {DASK}
            (up,) = monitor.views()
            assert (up.state, up.reason) == ("up", None)
            assert up.since > first.since
        await until(lambda: not monitor.is_up(DASK), "it goes down")
        (down,) = monitor.views()
        assert down.since > up.since
        assert monitor.up() == set()


@in_loop
async def test_check_refuses_only_strategies_whose_cluster_is_down(port: int) -> None:
    with listening(open_port := free_port()):
        addresses = {"dask": f"tls://127.0.0.1:{port}", "ray": f"ray://127.0.0.1:{open_port}"}
        async with watching(**addresses) as monitor:
            monitor.check(RAY)
            monitor.check(HYBRID)
            with pytest.raises(ClusterLostError, match="the dask cluster is lost: its port") as no:
                monitor.check(DASK)
            assert "/health/ready" in str(no.value)
            assert (monitor.is_up(HYBRID), monitor.up()) == (True, {RAY})
            assert {view.name: view.state for view in monitor.views()} == {DASK: "down", RAY: "up"}


@in_loop
async def test_time_of_the_last_change_stays_while_nothing_changes(port: int) -> None:
    async with watching(dask=f"tcp://127.0.0.1:{port}") as monitor:
        (first,) = monitor.views()
        assert not await monitor.is_back(LOST)
        (second,) = monitor.views()
        assert second == first


@in_loop
async def test_lost_cluster_is_looked_at_when_a_run_says_so(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "LOOK_SECONDS", 60.0)  # only the run's question can tell
    address = f"tcp://127.0.0.1:{port}"
    with listening(port):
        monitor = ClusterMonitor({DASK: address})
        await monitor.start()
        assert await monitor.is_back(LOST)
    assert monitor.is_up(DASK)  # nothing has looked since
    assert not await monitor.is_back(LOST)
    assert not monitor.is_up(DASK)
    with listening(port):
        assert await monitor.is_back(LOST)
    await monitor.close()


@in_loop
async def test_port_that_accepts_nobody_is_down(port: int) -> None:
    """A server whose backlog is full answers no connection."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", port))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        async with watching(dask=f"tcp://127.0.0.1:{port}") as monitor:
            await until(lambda: not monitor.is_up(DASK), "it is seen as down")
            assert "did not accept a connection within 0.2 s" in str(monitor.views()[0].reason)
        for each in waiting:
            each.close()


@in_loop
async def test_local_cluster_is_always_up() -> None:
    async with watching(ray=LOCAL_CLUSTER) as monitor:
        monitor.check(RAY)
        assert await monitor.is_back(ClusterLostError("ray", "its driver died"))


@in_loop
async def test_service_without_clusters_watches_nothing() -> None:
    async with watching() as monitor:
        assert (monitor.views(), monitor.up()) == ([], set())
        assert monitor.is_up(DASK)
        assert not await monitor.is_back(LOST)


@in_loop
async def test_host_that_cannot_be_resolved_is_down() -> None:
    async with watching(ray="no-such-host.invalid:6379") as monitor:
        assert "cannot be reached" in str(monitor.views()[0].reason)
