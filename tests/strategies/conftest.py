"""A shared event loop and set of pools for strategy tests, because pools start slowly."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.strategies.base import Strategy
from hotloop.app.strategies.cluster.protocol import ClusterConfig
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import LOCAL_STRATEGIES, STRATEGIES
from tests.fixtures.clusters import both_nodes_up, running


@pytest.fixture(scope="package", autouse=True)
def semaphores_are_freed_here() -> Iterator[None]:
    """Pools that were closed are garbage in cycles; freeing their semaphores blocks, which later
    tests forbid on their event loops.
    """
    yield
    gc.collect()


@pytest.fixture(scope="package")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="package")
def pools(runner: asyncio.Runner) -> Iterator[Pools]:
    pools = Pools(PoolLimits(threads=8, processes=3, cpus=3))
    yield pools
    runner.run(pools.close())


@pytest.fixture(scope="package")
def strategies(runner: asyncio.Runner, pools: Pools) -> Iterator[dict[StrategyName, Strategy]]:
    strategies = {name: STRATEGIES[name](pools) for name in LOCAL_STRATEGIES}
    yield strategies
    for strategy in strategies.values():
        runner.run(strategy.close())


@contextmanager
def on_cluster(
    name: StrategyName, runner: asyncio.Runner, folders: pytest.TempPathFactory
) -> Iterator[Strategy]:
    """A strategy on a real cluster of two nodes."""
    with pytest.MonkeyPatch.context() as patch, running(name, folders.mktemp(name)) as cluster:
        for variable, value in cluster.environment.items():
            patch.setenv(variable, value)
        config = ClusterConfig(name, cluster.address, 2)
        pools = Pools(PoolLimits(threads=8, processes=3, cpus=3), clusters=[config])
        strategy, driver = STRATEGIES[name](pools), pools.drivers[name]
        runner.run(both_nodes_up(cluster, driver))
        yield strategy
        runner.run(pools.close())


@pytest.fixture(scope="package")
def ray(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strategy]:
    with on_cluster(StrategyName.RAY, runner, tmp_path_factory) as strategy:
        yield strategy


@pytest.fixture(scope="package")
def dask(runner: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strategy]:
    with on_cluster(StrategyName.DASK, runner, tmp_path_factory) as strategy:
        yield strategy


@pytest.fixture(
    params=[
        *LOCAL_STRATEGIES,
        *(pytest.param(name, marks=pytest.mark.long) for name in sorted(CLUSTERS)),
    ]
)
def strategy(request: pytest.FixtureRequest) -> Strategy:
    """Every strategy; those on clusters in the long tests."""
    found: Strategy
    if request.param in CLUSTERS:
        found = request.getfixturevalue(request.param.value)
    else:
        found = request.getfixturevalue("strategies")[request.param]
    return found


@pytest.fixture(params=LOCAL_STRATEGIES)
def local_strategy(
    request: pytest.FixtureRequest, strategies: dict[StrategyName, Strategy]
) -> Strategy:
    return strategies[request.param]


@pytest.fixture(
    params=[StrategyName.MULTIPROCESSING, StrategyName.CONCURRENT_FUTURES, StrategyName.HYBRID]
)
def process_strategy(
    request: pytest.FixtureRequest, strategies: dict[StrategyName, Strategy]
) -> Strategy:
    """Strategies that use worker processes; hybrid with a kernel that holds the GIL."""
    return strategies[request.param]
