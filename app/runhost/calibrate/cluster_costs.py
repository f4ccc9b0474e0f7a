"""Measuring the costs of a strategy on a cluster: connecting, parcels, batches, items, bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.constants import ClusterCosts, KernelCosts
from hotloop.app.runhost.calibrate.kernel_costs import Probe, sized_call
from hotloop.app.runhost.calibrate.timed_runs import Experiment, TimedRuns, probe_plan
from hotloop.app.sources.inline import InlineItems
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan, Strategy
from hotloop.app.strategies.cluster.strategy import PARCEL_SECONDS, PARCELS_A_WORKER, sent_bytes

ROUNDS: Final = 3

ITEMS: Final = 50_000
"""Items of the run of one batch that measures the cost of an item beside its kernel."""

BATCHES: Final = 400
"""Batches of a run in a few parcels."""

PARCELS: Final = 60
"""Parcels of a run without computing."""

ROUND_TRIPS: Final = 20
"""Parcels of a run with one in flight."""

FULL_SECONDS: Final = 0.2
"""Seconds of computing of each parcel of a run in which all workers compute."""

FULL_PARCELS: Final = 2
"""Parcels of each worker in that run."""

MOST_WORKERS: Final = 256


@dataclass(frozen=True, slots=True)
class ClusterTimes:
    """The runs that measure the cluster of a strategy."""

    name: StrategyName
    call: Probe
    """A kernel call of FULL_SECONDS."""
    kernel: KernelCosts

    @classmethod
    def with_kernel(cls, name: StrategyName, kernel: KernelCosts) -> ClusterTimes:
        return cls(name, sized_call(kernel, FULL_SECONDS), kernel)

    async def measure(self, strategy: Strategy, runs: TimedRuns) -> ClusterCosts:
        """Connect, and make all runs. Raises the error that ended one of them."""
        started = time.perf_counter()
        workers = await strategy.prepare(self._plan(MOST_WORKERS, 1))
        setup_seconds = time.perf_counter() - started
        plans = self._plans(workers)
        experiments = [Experiment(what, plan) for what, plan in plans.items()]
        found = await runs.in_turns(experiments, ROUNDS)
        seconds = {what: found[self.name, what] for what in plans}
        start = seconds["start"]

        def each(what: str, count: int) -> float:
            return max(0.0, seconds[what] - start) / (count - 1)

        round_trip = each("round trips", ROUND_TRIPS)
        in_batches = seconds["batches"] - start - (PARCELS_A_WORKER - 1) * round_trip
        item = each("items", ITEMS)
        size = ITEMS * sent_bytes(plans["sent"])
        full = (seconds["full"] - start) / FULL_PARCELS - self.call.items * item
        return ClusterCosts(
            workers=workers,
            setup_seconds=setup_seconds,
            start_seconds=start,
            parcel_seconds=each("parcels", PARCELS),
            round_trip_seconds=round_trip,
            batch_seconds=max(0.0, in_batches) / (BATCHES - 1),
            item_seconds=item,
            byte_seconds=max(0.0, seconds["sent"] - seconds["items"]) / size,
            slowdown=max(0.01, full / self._call_seconds()),
        )

    def _call_seconds(self) -> float:
        """The seconds of a full parcel's kernel call on this machine, alone."""
        workload = kernels.get_workload(self.call.workload)
        operations = workload.operations(self.call.parameters)
        return self.kernel.seconds_of_call(operations, self.call.items)

    def _plans(self, workers: int) -> dict[str, Plan]:
        full = self.call.items
        return {
            "start": self._plan(1, 1),
            "items": self._plan(ITEMS, ITEMS),
            "sent": self._plan(ITEMS, ITEMS, items=_made_up(self.call.workload, ITEMS)),
            "batches": self._plan(BATCHES, 1, workers=1, batch_seconds=1e-6),
            "parcels": self._plan(PARCELS, 1),
            "round trips": self._plan(ROUND_TRIPS, 1, workers=1),
            "full": self._plan(
                FULL_PARCELS * workers * full, full, parameters=self.call.parameters
            ),
        }

    def _plan(self, count: int, batch_size: int, **fields: object) -> Plan:
        """Return a plan whose parcels have one batch each, unless `batch_seconds` is given."""
        defaults = {
            "items": GeneratedItems(count),
            "batch_size": batch_size,
            "workers": MOST_WORKERS,
            "batch_seconds": PARCEL_SECONDS,
        }
        call = self.call
        return probe_plan(call.workload, call.kernel, self.name, **(defaults | fields))


def _made_up(workload: str, count: int) -> InlineItems:
    item_ids = np.arange(count, dtype=np.int64)
    return InlineItems(item_ids, kernels.get_workload(workload).simulated_columns(item_ids))
