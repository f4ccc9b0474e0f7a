"""prediction.calibrations: clusters that come up are measured once, and hidden while down."""

from __future__ import annotations

import socket
from pathlib import Path

from hotloop.app.errors import ClusterLostError
from hotloop.app.names import StrategyName
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.runhost.calibrate.constants import TYPICAL_CLUSTER
from tests.fixtures.calibrating import Hosts, made, measured
from tests.fixtures.guarded import free_port
from tests.fixtures.waiting import in_loop

LOST = ClusterLostError("dask", "it is gone")


@in_loop
async def test_cluster_that_comes_up_is_measured_once(tmp_path: Path) -> None:
    port, hosts = free_port(), Hosts()
    monitor = ClusterMonitor({StrategyName.DASK: f"tcp://127.0.0.1:{port}"})
    assert not await monitor.is_back(LOST)
    ours = made(tmp_path, hosts, monitor)
    await measured(ours)
    await measured(ours)
    assert hosts.calibrations == 1  # a cluster that is down is no reason to measure again
    with socket.create_server(("127.0.0.1", port)):
        assert await monitor.is_back(LOST)
        for _ in range(3):
            await measured(ours)
    # These hosts could not measure it, and it is not tried for ever.
    assert hosts.calibrations == 2


@in_loop
async def test_cluster_that_is_down_is_not_among_what_is_known(tmp_path: Path) -> None:
    port, hosts = free_port(), Hosts()
    hosts.clusters = {"dask": TYPICAL_CLUSTER}
    monitor = ClusterMonitor({StrategyName.DASK: f"tcp://127.0.0.1:{port}"})
    ours = made(tmp_path, hosts, monitor)
    await measured(ours)
    assert set((await ours.known()).clusters) == {"dask"}
    assert not await monitor.is_back(LOST)
    assert set((await ours.known()).clusters) == set()
    with socket.create_server(("127.0.0.1", port)):
        assert await monitor.is_back(LOST)
        assert set((await ours.known()).clusters) == {"dask"}
        await measured(ours)
    assert hosts.calibrations == 1
