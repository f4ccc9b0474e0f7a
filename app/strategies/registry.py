"""The table of strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hotloop.app.names import StrategyName
from hotloop.app.strategies import async_batch, hybrid, multiprocess, sequential, threaded
from hotloop.app.strategies.base import Capabilities, Strategy
from hotloop.app.strategies.pools import Pools

STRATEGIES: Final[Mapping[StrategyName, Callable[[Pools], Strategy]]] = MappingProxyType(
    {
        StrategyName.SEQUENTIAL: sequential.Sequential,
        StrategyName.THREADING: threaded.Threading,
        StrategyName.MULTIPROCESSING: multiprocess.Multiprocessing,
        StrategyName.ASYNC_BATCH: async_batch.AsyncBatch,
        StrategyName.CONCURRENT_FUTURES: multiprocess.ConcurrentFutures,
        StrategyName.HYBRID: hybrid.Hybrid,
    }
)
"""Name to what makes it, in the order in which strategies are shown."""

CAPABILITIES: Final[Mapping[StrategyName, Capabilities]] = MappingProxyType(
    {
        StrategyName.SEQUENTIAL: sequential.CAPABILITIES,
        StrategyName.THREADING: threaded.CAPABILITIES,
        StrategyName.MULTIPROCESSING: multiprocess.CAPABILITIES,
        StrategyName.ASYNC_BATCH: async_batch.CAPABILITIES,
        StrategyName.CONCURRENT_FUTURES: multiprocess.CAPABILITIES,
        StrategyName.HYBRID: hybrid.CAPABILITIES,
    }
)


def uses_processes(strategy: StrategyName, releases_gil: bool) -> bool:
    """Whether the workers are processes, for a kernel that releases the GIL or does not."""
    if strategy is StrategyName.HYBRID:
        return not releases_gil
    return not CAPABILITIES[strategy].shares_memory
