"""Rough estimates of a run's memory, and the budget that it must fit in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import psutil

from hotloop import kernels
from hotloop.app.errors import MemoryBudgetError
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.strategies import registry
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import batch_count, window_size
from hotloop.app.strategies.cluster.strategy import MOST_BYTES
from hotloop.app.strategies.hybrid import batches_open
from hotloop.app.strategies.pools import PoolLimits, pool_workers
from hotloop.app.system import memory_limit

ITEM_BYTES: Final = 128
"""Bytes of an item in a batch in flight: its columns in and out, in memory and in messages, without
its vectors."""

VECTOR_COPIES: Final = 2
"""Copies of a vector while its batch is computed: as it was loaded, and without failed items."""

LEFT_FREE: Final = 0.2
"""Share of the memory that is kept free for the API process and caches, and because estimates are
rough."""


LEAST_OWN_BYTES: Final = 512 << 20
"""Least memory of a process that runs a user's function, whose compiler takes its part of it."""


@dataclass(frozen=True, slots=True)
class MemoryCosts:
    """Bytes of the parts of a run."""

    host: int
    """Bytes of the run host with its kernels."""
    worker: int
    """Bytes of each worker process: Python, NumPy, Numba."""
    waiting: int
    """Bytes of each item in flight on the event loop: an asyncio task and its timer."""


ROUGHLY: Final = MemoryCosts(200 << 20, 80 << 20, 3_000)
"""Costs on the safe side, by which runs are refused on calibrated and other machines alike."""


def run_bytes(plan: Plan, costs: MemoryCosts, workers: int, in_processes: bool) -> int:
    """Return the bytes of the run host and its children at the peak of a run with `workers` worker
    processes or threads.
    """
    if plan.strategy in CLUSTERS:
        return costs.host + min(item_bytes(plan) * plan.item_count, MOST_BYTES)
    in_batches = min(plan.item_count, _batches_in_flight(plan, workers) * plan.batch_size)
    needed = costs.host + costs.worker * workers * in_processes + item_bytes(plan) * in_batches
    if plan.stages and registry.CAPABILITIES[plan.strategy].overlaps_io:
        needed += costs.waiting * min(plan.item_count, plan.io_concurrency)
    return needed


def item_bytes(plan: Plan) -> int:
    """Return the bytes of an item in a batch in flight."""
    values = (column.width or 0 for column in kernels.get_workload(plan.workload).columns_in)
    return ITEM_BYTES + VECTOR_COPIES * 8 * sum(values)


def _batches_in_flight(plan: Plan, workers: int) -> int:
    if not registry.CAPABILITIES[plan.strategy].parallel:
        return 1
    window = window_size(workers)
    if plan.strategy is StrategyName.HYBRID and plan.stages:
        window += batches_open(plan)
    return min(window, batch_count(plan))


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The memory that each of the concurrent runs may need."""

    run_bytes: int
    limits: PoolLimits

    def needed(self, plan: Plan) -> int:
        """Return the bytes of the run host and its children at the peak of the run."""
        in_processes = uses_processes(plan)
        workers = pool_workers(plan, self.limits, in_processes=in_processes)
        return run_bytes(plan, ROUGHLY, workers, in_processes)

    def fits(self, plan: Plan) -> bool:
        """Return True if the run fits in its budget."""
        return self.needed(plan) <= self.run_bytes

    def check(self, plan: Plan) -> None:
        """Raise MemoryBudgetError if the run does not fit in its budget."""
        needed = self.needed(plan)
        if needed <= self.run_bytes:
            return
        by_workers = uses_processes(plan) and ROUGHLY.worker * plan.workers > needed / 2
        raise MemoryBudgetError("workers" if by_workers else "batch_size", needed, self.run_bytes)

    def bounded(self, plan: Plan) -> Plan:
        """Return the plan with a bound of the memory that a user's function takes, which no
        estimate knows: the processes of a run share what it may take.
        """
        if plan.source is None:
            return plan
        in_processes = uses_processes(plan)
        sharing = pool_workers(plan, self.limits, in_processes=True) if in_processes else 1
        return replace(plan, memory_bytes=max(LEAST_OWN_BYTES, self.run_bytes // sharing))


def uses_processes(plan: Plan) -> bool:
    """Return True if the workers of the plan are processes."""
    return registry.uses_processes(plan.strategy, kernels.releases_gil(plan.workload, plan.kernel))


def usable_bytes() -> int:
    """Return the most bytes that this process and its children may use, with the limits of
    containers. Reads a few files.
    """
    limit = memory_limit()
    total = int(psutil.virtual_memory().total)
    return total if limit is None else min(total, limit.bytes)


def available_bytes() -> int:
    """Return the bytes that this process and its children may still take. Reads a few files."""
    limit = memory_limit()
    free = int(psutil.virtual_memory().available)
    return free if limit is None else min(free, limit.free_bytes)


def default_budget_bytes() -> int:
    """Return the default bytes for all runs together. Reads a few files."""
    return int((1 - LEFT_FREE) * usable_bytes())
