"""How much memory a run will need, roughly, and whether that much may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psutil

import kernels
from app.errors import MemoryBudgetError
from app.names import StrategyName
from app.strategies import registry
from app.strategies.base import Plan
from app.strategies.batching import batch_count, window_size
from app.system import memory_limit

HOST_BYTES: Final = 200 << 20
"""A run host with its kernels, roughly."""
WORKER_BYTES: Final = 80 << 20
"""A worker process, roughly: Python, NumPy, Numba."""
ITEM_BYTES: Final = 64
"""An item in flight: its columns in and out, here and on their way."""
WAITING_BYTES: Final = 3_000
"""An item that waits for its stages beside others: a task of the event loop, with its timer."""

LEFT_FREE: Final = 0.2
"""Share of the memory that is nobody's to plan with: the API process, caches, estimates that are
rough."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """What each of the runs that may execute at once may need."""

    run_bytes: int
    max_threads: int
    max_processes: int
    """The most workers of each sort that a run gets, whatever it asks for."""

    def needed(self, plan: Plan) -> int:
        """Bytes, of the run host and all below it."""
        processes = min(plan.workers, self.max_processes) if uses_processes(plan) else 0
        items = min(plan.item_count, self._batches_in_flight(plan) * plan.batch_size)
        needed = HOST_BYTES + WORKER_BYTES * processes + ITEM_BYTES * items
        if plan.stages and registry.CAPABILITIES[plan.strategy].overlaps_io:
            needed += WAITING_BYTES * min(plan.item_count, plan.io_concurrency)
        return needed

    def fits(self, plan: Plan) -> bool:
        return self.needed(plan) <= self.run_bytes

    def check(self, plan: Plan) -> None:
        """Raises MemoryBudgetError."""
        needed = self.needed(plan)
        if needed <= self.run_bytes:
            return
        by_workers = uses_processes(plan) and WORKER_BYTES * plan.workers > needed / 2
        raise MemoryBudgetError("workers" if by_workers else "batch_size", needed, self.run_bytes)

    def _batches_in_flight(self, plan: Plan) -> int:
        if not registry.CAPABILITIES[plan.strategy].parallel:
            return 1
        most = self.max_processes if uses_processes(plan) else self.max_threads
        window = window_size(min(plan.workers, most))
        if plan.strategy is StrategyName.HYBRID and plan.stages:
            window += -(-plan.io_concurrency // plan.batch_size) + 1
        return min(window, batch_count(plan))


def uses_processes(plan: Plan) -> bool:
    """Whether its workers are processes."""
    return registry.uses_processes(plan.strategy, kernels.releases_gil(plan.workload, plan.kernel))


def usable_bytes() -> int:
    """Memory that this process and those below it may use at most, limits of containers included.
    Reads a few files.
    """
    limit = memory_limit()
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit.bytes)


def default_budget_bytes() -> int:
    """For all runs together, where the operator says nothing."""
    return int((1 - LEFT_FREE) * usable_bytes())
