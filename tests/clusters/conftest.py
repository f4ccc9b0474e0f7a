"""A cluster of two nodes, and a strategy on it, for the tests of a module."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.strategies.base import BatchResult, Plan, Strategy
from hotloop.app.strategies.cluster.driver_process import DriverProcess
from hotloop.app.strategies.cluster.protocol import ClusterConfig
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES
from tests.fixtures.clusters import Cluster, both_nodes_up, running


@dataclass(frozen=True)
class OnCluster:
    """A strategy, its driver and its cluster, and the event loop that they use."""

    runner: asyncio.Runner
    cluster: Cluster
    strategy: Strategy
    driver: DriverProcess

    @property
    def name(self) -> StrategyName:
        return self.strategy.name

    async def results(self, plan: Plan) -> list[BatchResult]:
        await self.strategy.prepare(plan)
        return [result async for result in self.strategy.run(plan)]


@pytest.fixture(scope="module", params=sorted(CLUSTERS))
def used(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnCluster]:
    name = StrategyName(request.param)
    with (
        asyncio.Runner() as runner,
        pytest.MonkeyPatch.context() as patch,
        running(name, tmp_path_factory.mktemp(name)) as cluster,
    ):
        for variable, value in cluster.environment.items():
            patch.setenv(variable, value)
        config = ClusterConfig(name, cluster.address, 2)
        pools = Pools(PoolLimits(2, 2, 2), clusters=[config])
        driver = pools.drivers[name]
        runner.run(both_nodes_up(cluster, driver))
        yield OnCluster(runner, cluster, STRATEGIES[name](pools), driver)
        runner.run(pools.close())
