"""Calibrating: short runs in a run host that measure every constant of the cost model.

Pools of its own, so that those of the run host stay as they are. Each experiment is made several
times over, and the median counts, as a prediction is for what a usual run meets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import kernels
from app.names import StrategyName
from app.runhost.calibration import Calibration
from app.runhost.config import RunHostConfig
from app.runhost.execution import Send, Surroundings
from app.runhost.kernel_costs import (
    ROUNDS,
    KernelTimes,
    Probe,
    company_probe,
    probe_plan,
    process_slowdown,
    thread_slowdown,
)
from app.runhost.strategy_costs import StrategyTimes
from app.runhost.timed_runs import TimedRuns
from app.runhost.waiting_costs import WaitingTimes, loop_costs, wait_costs
from app.sources.simulated import GeneratedItems
from app.strategies.pools import PoolLimits, Pools
from app.strategies.registry import STRATEGIES

RUN_ROUNDS: Final = 2
ALONE_ROUNDS: Final = 1


class Calibrating:
    """One calibration. `run` it once."""

    def __init__(
        self,
        config: RunHostConfig,
        around: Surroundings,
        available: Sequence[tuple[str, str]],
        send: Send,
    ) -> None:
        """`available` are workloads and kernels that are warm; `send` is how results leave."""
        self._available = available
        self._config = config
        self._around = around
        self._cpus = config.usable_cpus
        limits = PoolLimits(
            max(self._cpus, config.max_worker_threads),
            max(self._cpus, config.max_worker_processes),
            self._cpus,
        )
        self._pools = Pools(limits, config.instruction_set)
        self._strategies = {name: make(self._pools) for name, make in STRATEGIES.items()}
        self._runs = TimedRuns(self._strategies, around, send)

    async def run(self) -> Calibration:
        started = time.perf_counter()
        try:
            base_bytes = await asyncio.to_thread(self._around.gauge.read)
            times = [KernelTimes(*each) for each in self._available]
            await asyncio.to_thread(_time_kernels, times)
            setup, worker_bytes = await self._set_up(base_bytes, times[0])
            company = [await asyncio.to_thread(company_probe, *each) for each in self._available]
            await self._time_company(times, company)
            workload, kernel = _cheapest(self._available)
            strategies = await asyncio.to_thread(
                StrategyTimes.with_kernel, workload, kernel, self._cpus
            )
            waiting = WaitingTimes(workload, kernel, self._cpus)
            seconds = await self._runs.in_turns(
                [*strategies.experiments(), *waiting.experiments()], RUN_ROUNDS
            )
            # Again, seconds later.
            await self._time_company(times, company)
            await asyncio.to_thread(_time_kernels, times)
            # The last runs, as pools are made anew for them.
            alone = await self._runs.in_turns(list(strategies.alone()), ALONE_ROUNDS)
            seconds = {**seconds, **alone}
            await asyncio.to_thread(_time_kernels, times)
            costs = tuple(each.costs() for each in times)
            cheapest = costs[self._available.index((workload, kernel))]
            waits = await wait_costs(seconds)
        finally:
            for strategy in self._strategies.values():
                await strategy.close()
            await self._pools.close()
        return Calibration(
            usable_cpus=self._cpus,
            max_threads=self._config.max_worker_threads,
            max_processes=self._config.max_worker_processes,
            kernels=costs,
            strategies={
                str(name): strategies.costs(name, seconds, cheapest, setup[name], worker_bytes)
                for name in STRATEGIES
            },
            waits=waits,
            loops=loop_costs(seconds),
            base_bytes=base_bytes,
            seconds=time.perf_counter() - started,
        )

    async def _set_up(
        self, base_bytes: int, times: KernelTimes
    ) -> tuple[dict[StrategyName, float], int]:
        """Seconds to bring up the pool of each strategy, and bytes of a worker process."""
        setup = {}
        for name, strategy in self._strategies.items():
            plan = probe_plan(
                times.workload,
                times.kernel,
                name,
                workers=self._cpus,
                items=GeneratedItems(self._cpus),
            )
            started = time.perf_counter()
            await strategy.prepare(plan)
            setup[name] = time.perf_counter() - started
        self._around.gauge.look_around()
        held = await asyncio.to_thread(self._around.gauge.read)
        return setup, max(0, held - base_bytes) // (2 * self._cpus)

    async def _time_company(self, times: Sequence[KernelTimes], company: Sequence[Probe]) -> None:
        pool, cpus = self._pools.executor, self._cpus
        for each, call in zip(times, company, strict=True):
            plan = probe_plan(call.workload, call.kernel, StrategyName.CONCURRENT_FUTURES)
            await pool.ensure(cpus, plan)
            in_threads = await asyncio.to_thread(thread_slowdown, call, cpus)
            each.note_slowdowns(in_threads, await process_slowdown(pool, call, cpus))


def _time_kernels(times: Sequence[KernelTimes]) -> None:
    for _ in range(ROUNDS):
        for each in times:
            each.measure()


def _cheapest(available: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """What measures strategies: one that leaves other threads alone, where there is one."""
    return max(available, key=lambda each: kernels.get_kernel(*each).releases_gil)
