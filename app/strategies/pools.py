"""The pools of a run host: made once, shared by its strategies, kept between runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hotloop.app.names import StrategyName
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import batch_count
from hotloop.app.strategies.executor_pool import ExecutorPool
from hotloop.app.strategies.multiprocessing_pool import MultiprocessingPool
from hotloop.app.strategies.nursery import Nursery
from hotloop.app.strategies.process_pool import ProcessPool
from hotloop.app.strategies.thread_pool import ThreadPool


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The most workers of each sort that a run gets, whatever it asks for."""

    threads: int
    processes: int
    cpus: int
    """Usable CPUs: no more processes than these have anything to do, unless they wait."""


class Pools:
    """One pool of each sort. `close` ends them all; they come back when next needed.

    Worker processes use `instruction_set` where a kernel has it; None is the best they have.
    """

    def __init__(self, limits: PoolLimits, instruction_set: str | None = None) -> None:
        self.limits = limits
        self.threads = ThreadPool()
        self.nursery = Nursery(instruction_set)
        self.executor = ExecutorPool(self.nursery, instruction_set)
        self.multiprocessing = MultiprocessingPool(self.nursery, instruction_set)

    def thread_workers(self, plan: Plan) -> int:
        return pool_workers(plan, self.limits, in_processes=False)

    def process_workers(self, plan: Plan) -> int:
        """Return the number of processes that a run may use, whatever it has for them to do."""
        return pool_workers(plan, self.limits, in_processes=True)

    async def ensure_processes(self, pool: ProcessPool, plan: Plan) -> int:
        """Have as many worker processes as the plan has something to do for; returns how many."""
        most = self.process_workers(plan)
        workers = effective_workers(plan, most)
        await pool.ensure(max(1, workers), plan, most)
        return workers

    def pids(self, pool: ProcessPool) -> list[int]:
        """The processes of a pool, and the one that forks them."""
        server = self.nursery.pid
        return pool.pids if server is None else [server, *pool.pids]

    async def close(self) -> None:
        """Raises process_pool.PoolStuckError."""
        self.threads.close()
        await self.executor.discard()
        await self.multiprocessing.discard()
        await asyncio.to_thread(self.nursery.close)


def pool_workers(plan: Plan, limits: PoolLimits, *, in_processes: bool) -> int:
    """Return the number of workers that a run may use: processes are no more than usable CPUs
    unless they wait for I/O, which those of `hybrid` do not.
    """
    if not in_processes:
        return min(plan.workers, limits.threads)
    waits = bool(plan.stages) and plan.strategy is not StrategyName.HYBRID
    most = limits.processes if waits else min(limits.processes, limits.cpus)
    return min(plan.workers, most)


def effective_workers(plan: Plan, pool_workers: int) -> int:
    """Workers that will have something to do: no more than there are batches."""
    return min(pool_workers, batch_count(plan))
