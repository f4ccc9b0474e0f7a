"""The table of strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.strategies import batchwise, hybrid
from hotloop.app.strategies.base import Capabilities, Strategy
from hotloop.app.strategies.cluster.strategy import OnDask, OnRay
from hotloop.app.strategies.pools import Pools

_CLASSES: Final = (
    batchwise.Sequential,
    batchwise.Threading,
    batchwise.Multiprocessing,
    batchwise.AsyncBatch,
    batchwise.ConcurrentFutures,
    hybrid.Hybrid,
    OnRay,
    OnDask,
)
"""All strategies, in the order in which they are shown."""

STRATEGIES: Final[Mapping[StrategyName, Callable[[Pools], Strategy]]] = MappingProxyType(
    {made.name: made for made in _CLASSES}
)
CAPABILITIES: Final[Mapping[StrategyName, Capabilities]] = MappingProxyType(
    {made.name: made.capabilities for made in _CLASSES}
)


LOCAL_STRATEGIES: Final = tuple(name for name in STRATEGIES if name not in CLUSTERS)
"""The strategies that compute on this machine."""


def uses_processes(strategy: StrategyName, releases_gil: bool) -> bool:
    """Return True if the workers are processes, for a kernel that releases the GIL or does not."""
    if strategy is StrategyName.HYBRID:
        return not releases_gil
    return not CAPABILITIES[strategy].shares_memory
