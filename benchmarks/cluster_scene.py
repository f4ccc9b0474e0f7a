"""A cluster to simulate: its stages with their costs, and the parcels that Hotloop would make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Final

from hotloop.app.names import StrategyName
from hotloop.app.prediction.plan import MOST_WORKERS
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.cluster.strategy import MOST_BYTES, parcel_batches

STAGES: Final = ("worker", "scheduler", "driver", "run host", "node", "store")
SHARED: Final = ("worker", "scheduler", "store")
"""Stages that all nodes share; of the others each node has one."""

ITEM_BYTES: Final = 41
"""Bytes of an item's result: 25 and two output columns."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a stage for each parcel (of the store: each transaction), batch and item."""

    parcel: float = 0.0
    batch: float = 0.0
    item: float = 0.0

    def seconds(self, parcels: float, batches: float, items: float) -> float:
        return parcels * self.parcel + batches * self.batch + items * self.item


@dataclass(frozen=True, slots=True)
class Scene:
    """The cluster, the plan and the constants of a simulation."""

    costs: Mapping[str, Cost]
    """The costs of each of STAGES."""
    workers: int
    batch_seconds: float
    """Seconds of computing of a batch."""
    batch_items: int
    nodes: int = 0
    """Run hosts that execute a shard each; 0 means as many as the workers need."""
    transactions: int = 4
    """Transactions that the store executes at the same time without slowing each other down."""
    latency: float = 1e-3
    """Seconds from one machine to another."""
    spread: float = 0.2
    """Standard deviation of the seconds of a parcel ÷ their mean."""
    longer: int = 1
    """Times as many batches in a parcel, and bytes in flight, as Hotloop takes."""
    direct: bool = False
    """True: workers write results into the store, and only tell that they have done so."""
    seed: int = 1

    @property
    def runs(self) -> int:
        return self.nodes or ceil(self.workers / MOST_WORKERS)

    @property
    def workers_of_run(self) -> int:
        return min(self.workers, MOST_WORKERS)

    @property
    def parcel(self) -> int:
        """Batches of a parcel, as the strategy cuts a long run."""
        items = GeneratedItems(1_000_000 * self.batch_items)
        plan = Plan(
            *("loops", "cython", StrategyName.DASK, items, (), {}, self.batch_items, MOST_WORKERS),
            io_concurrency=1,
            batch_seconds=self.batch_seconds,
        )
        # What does not travel does not fill the memory.
        return self.longer * parcel_batches(plan, 1 if self.direct else self.workers_of_run)

    @property
    def window(self) -> int:
        """Parcels of a run in flight, by the rule of the strategy."""
        wanted = 2 * self.workers if self.workers <= MOST_WORKERS else MOST_WORKERS
        bytes_of_parcel = self.parcel * self.batch_items * ITEM_BYTES
        fitting = wanted if self.direct else self.longer * MOST_BYTES // bytes_of_parcel
        return max(1, min(wanted, fitting))

    @property
    def parcel_seconds(self) -> float:
        """Seconds of a parcel in its worker."""
        size = self.parcel
        own = self.costs["worker"].seconds(1, size, size * self.batch_items)
        return size * self.batch_seconds + own

    def demand(self, stage: str) -> float:
        """Seconds of the stage for a parcel; of the store without its transactions, which parcels
        that end at the same time share.
        """
        if stage == "worker":
            return self.parcel_seconds
        size = self.parcel
        alone = stage == "store"
        passes = not self.direct or alone
        items = size * self.batch_items if passes else 0
        return self.costs[stage].seconds(0 if alone else 1, size if passes else 0, items)

    def servers(self, stage: str) -> int:
        """The number of parcels that the stage serves at once."""
        if stage in SHARED:
            return {"worker": self.workers, "scheduler": 1, "store": self.transactions}[stage]
        return self.runs

    def feeds(self, stage: str) -> float:
        """The number of workers that one server of the stage can keep busy."""
        demand = self.demand(stage)
        return self.parcel_seconds / demand if demand else inf

    @property
    def saturated(self) -> str | None:
        """The stage that the workers ask most of, if it is more than it can do."""
        asked = {
            stage: self.workers / self.servers(stage) / self.feeds(stage)
            if stage in SHARED
            else self.workers_of_run / self.feeds(stage)
            for stage in STAGES[1:]
        }
        worst = max(asked, key=lambda stage: asked[stage])
        return worst if asked[worst] > 1 else None
