"""A shared event loop and set of pools for strategy tests, because pools start slowly."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator

import pytest

from hotloop.app.names import StrategyName
from hotloop.app.strategies.base import Strategy
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES


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
    strategies = {name: make(pools) for name, make in STRATEGIES.items()}
    yield strategies
    for strategy in strategies.values():
        runner.run(strategy.close())


@pytest.fixture(params=list(StrategyName))
def strategy(request: pytest.FixtureRequest, strategies: dict[StrategyName, Strategy]) -> Strategy:
    return strategies[request.param]


@pytest.fixture(
    params=[StrategyName.MULTIPROCESSING, StrategyName.CONCURRENT_FUTURES, StrategyName.HYBRID]
)
def process_strategy(
    request: pytest.FixtureRequest, strategies: dict[StrategyName, Strategy]
) -> Strategy:
    """Strategies that use worker processes; hybrid with a kernel that holds the GIL."""
    return strategies[request.param]
