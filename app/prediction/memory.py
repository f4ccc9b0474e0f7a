"""The memory that a run needs, roughly, and how much of it may be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psutil

from hotloop import kernels
from hotloop.app.errors import MemoryBudgetError
from hotloop.app.names import StrategyName
from hotloop.app.strategies import registry
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import batch_count, window_size
from hotloop.app.strategies.hybrid import batches_open
from hotloop.app.strategies.pools import PoolLimits, pool_workers
from hotloop.app.system import memory_limit

ITEM_BYTES: Final = 128
"""Bytes of an item in a batch in flight: its columns in and out, here and on their way."""

LEFT_FREE: Final = 0.2
"""Share of the memory that is not planned with, for the API process, for caches, and because
estimates are rough."""


@dataclass(frozen=True, slots=True)
class MemoryCosts:
    """Bytes of the parts of a run."""

    host: int
    """The run host with its kernels."""
    worker: int
    """Each worker process: Python, NumPy, Numba."""
    waiting: int
    """Each item in flight on the event loop: an asyncio task and its timer."""


ROUGHLY: Final = MemoryCosts(200 << 20, 80 << 20, 3_000)
"""Costs on the safe side, by which runs are refused, whether a machine is calibrated or not."""


def run_bytes(plan: Plan, costs: MemoryCosts, workers: int, in_processes: bool) -> int:
    """Bytes of the run host and its children at the peak of a run with `workers` workers, which are
    processes or threads.
    """
    in_batches = min(plan.item_count, _batches_in_flight(plan, workers) * plan.batch_size)
    needed = costs.host + costs.worker * workers * in_processes + ITEM_BYTES * in_batches
    if plan.stages and registry.CAPABILITIES[plan.strategy].overlaps_io:
        needed += costs.waiting * min(plan.item_count, plan.io_concurrency)
    return needed


def _batches_in_flight(plan: Plan, workers: int) -> int:
    if not registry.CAPABILITIES[plan.strategy].parallel:
        return 1
    window = window_size(workers)
    if plan.strategy is StrategyName.HYBRID and plan.stages:
        window += batches_open(plan)
    return min(window, batch_count(plan))


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The memory that each of the runs which may execute at once may need."""

    run_bytes: int
    limits: PoolLimits

    def needed(self, plan: Plan) -> int:
        """Bytes of the run host and its children at the peak of the run."""
        in_processes = uses_processes(plan)
        workers = pool_workers(plan, self.limits, in_processes=in_processes)
        return run_bytes(plan, ROUGHLY, workers, in_processes)

    def fits(self, plan: Plan) -> bool:
        """True if the run may need as much memory as it does."""
        return self.needed(plan) <= self.run_bytes

    def check(self, plan: Plan) -> None:
        """Raise MemoryBudgetError if the run needs more memory than it may."""
        needed = self.needed(plan)
        if needed <= self.run_bytes:
            return
        by_workers = uses_processes(plan) and ROUGHLY.worker * plan.workers > needed / 2
        raise MemoryBudgetError("workers" if by_workers else "batch_size", needed, self.run_bytes)


def uses_processes(plan: Plan) -> bool:
    """True if the workers of the plan are processes."""
    return registry.uses_processes(plan.strategy, kernels.releases_gil(plan.workload, plan.kernel))


def usable_bytes() -> int:
    """Memory that this process and its children may use at most, limits of containers included.
    Reads a few files.
    """
    limit = memory_limit()
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit.bytes)


def available_bytes() -> int:
    """Memory that this process and its children may still take. Reads a few files."""
    limit = memory_limit()
    free = int(psutil.virtual_memory().available)
    return free if limit is None else min(free, limit.free_bytes)


def default_budget_bytes() -> int:
    """Memory for all runs together, if the settings do not give it. Reads a few files."""
    return int((1 - LEFT_FREE) * usable_bytes())
