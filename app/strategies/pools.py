"""The pools of a run host: made once, shared by its strategies, kept between runs."""

from __future__ import annotations

from dataclasses import dataclass

from app.strategies.base import Plan
from app.strategies.batching import batch_count
from app.strategies.executor_pool import ExecutorPool
from app.strategies.multiprocessing_pool import MultiprocessingPool
from app.strategies.thread_pool import ThreadPool


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """The most workers of each sort that a run gets, whatever it asks for."""

    threads: int
    processes: int


class Pools:
    """One pool of each sort. `close` ends them all; they come back when next needed.

    Worker processes use `instruction_set` where a kernel has it; None is the best they have.
    """

    def __init__(self, limits: PoolLimits, instruction_set: str | None = None) -> None:
        self.limits = limits
        self.threads = ThreadPool()
        self.executor = ExecutorPool(instruction_set)
        self.multiprocessing = MultiprocessingPool(instruction_set)

    def thread_workers(self, plan: Plan) -> int:
        return min(plan.workers, self.limits.threads)

    def process_workers(self, plan: Plan) -> int:
        return min(plan.workers, self.limits.processes)

    async def close(self) -> None:
        """Raises process_pool.PoolStuckError."""
        self.threads.close()
        await self.executor.discard()
        await self.multiprocessing.discard()


def effective_workers(plan: Plan, pool_workers: int) -> int:
    """Workers that will have something to do: no more than there are batches."""
    return min(pool_workers, batch_count(plan))
