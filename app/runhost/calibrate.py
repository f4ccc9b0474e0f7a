"""Calibrating: short runs in a run host that measure every constant of the cost model.

Pools of its own, so that those of the run host stay as they are. Each experiment is made several
times over, and the median counts, as a prediction is for what a usual run meets.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibration import Calibration
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.execution import Surroundings
from hotloop.app.runhost.kernel_costs import (
    ROUNDS,
    SLOWDOWN_SECONDS,
    KernelTimes,
    Probe,
    probe_plan,
    process_slowdown,
    sized_call,
    thread_slowdown,
)
from hotloop.app.runhost.messages import Batches, CalibrationProgress, Progress, RunStarted
from hotloop.app.runhost.strategy_costs import StrategyTimes
from hotloop.app.runhost.timed_runs import Experiment, TimedRuns, typical_seconds
from hotloop.app.runhost.waiting_costs import WaitingTimes, loop_costs, wait_costs
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import STRATEGIES, uses_processes

RUN_ROUNDS: Final = 2
ALONE_ROUNDS: Final = 1

KERNEL_SECONDS: Final = 0.1
COMPANY_SECONDS: Final = 0.15
SETUP_SECONDS: Final = 1.2
"""Typical seconds of the steps that are no runs: only for how far a calibration is."""

CalibrationSend = Callable[
    [RunStarted | Batches | Progress | BreakerReport | CalibrationProgress], Awaitable[None]
]


class Calibrating:
    """One calibration. `run` it once."""

    def __init__(
        self,
        config: RunHostConfig,
        around: Surroundings,
        available: Sequence[tuple[str, str]],
        send: CalibrationSend,
    ) -> None:
        """`available` are workloads and kernels that are warm; `send` is how results leave, and how
        it is told how far the calibration is.
        """
        self._available = available
        self._config = config
        self._around = around
        self._send = send
        self._cpus = config.usable_cpus
        self._planned = inf
        """Typical seconds of all steps."""
        self._done = 0.0
        """Typical seconds of the steps that are done."""
        limits = PoolLimits(
            max(self._cpus, config.max_worker_threads),
            max(self._cpus, config.max_worker_processes),
            self._cpus,
        )
        self._pools = Pools(limits, config.instruction_set)
        self._strategies = {name: make(self._pools) for name, make in STRATEGIES.items()}
        self._runs = TimedRuns(self._strategies, self._cpus, send, self._note_done)

    async def run(self) -> Calibration:
        started = time.perf_counter()
        try:
            base_bytes = await asyncio.to_thread(self._around.gauge.read)
            times = [KernelTimes(*each) for each in self._available]
            await self._time_kernels(times)
            workload, kernel = _cheapest(self._available)
            place = self._available.index((workload, kernel))
            strategies = StrategyTimes.with_kernel(times[place].costs(), self._cpus)
            waiting = WaitingTimes(workload, kernel, self._cpus)
            experiments = [*strategies.experiments(), *waiting.experiments()]
            alone = list(strategies.alone())
            self._planned = _planned_seconds(len(times), experiments, alone)
            setup, worker_bytes = await self._set_up(base_bytes, times[0])
            company = [sized_call(each.costs(), SLOWDOWN_SECONDS) for each in times]
            await self._time_company(times, company)
            seconds = await self._runs.in_turns(experiments, RUN_ROUNDS)
            # Again, seconds later.
            await self._time_company(times, company)
            await self._time_kernels(times)
            # The last runs, as pools are made anew for them.
            seconds = {**seconds, **await self._runs.in_turns(alone, ALONE_ROUNDS)}
            await self._note_done(SETUP_SECONDS)
            await self._time_kernels(times)
            costs = tuple(each.costs() for each in times)
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
                str(name): strategies.costs(name, seconds, costs[place], setup[name], worker_bytes)
                for name in STRATEGIES
            },
            waits=waits,
            loops=loop_costs(seconds),
            base_bytes=base_bytes,
            seconds=time.perf_counter() - started,
        )

    async def _note_done(self, seconds: float) -> None:
        self._done += seconds
        await self._send(CalibrationProgress(min(1.0, self._done / self._planned)))

    async def _set_up(
        self, base_bytes: int, times: KernelTimes
    ) -> tuple[dict[StrategyName, float], int]:
        """Seconds to bring up the pool of each strategy, and bytes of a worker process."""
        setup: dict[StrategyName, float] = {}
        releases_gil = kernels.releases_gil(times.workload, times.kernel)
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
        # The first pool of processes started what all of them are forked from.
        in_processes = [n for n in setup if uses_processes(n, releases_gil)]
        setup |= dict.fromkeys(in_processes, max(setup[name] for name in in_processes))
        await self._note_done(SETUP_SECONDS)
        self._around.gauge.look_around()
        held = await asyncio.to_thread(self._around.gauge.read)
        return setup, max(0, held - base_bytes) // (2 * self._cpus)

    async def _time_company(self, times: Sequence[KernelTimes], company: Sequence[Probe]) -> None:
        """Kernels that release the GIL slow each other down in processes as in threads: they share
        CPUs, and nothing else.
        """
        pool, cpus = self._pools.executor, self._cpus
        for each, call in zip(times, company, strict=True):
            in_threads = in_processes = await asyncio.to_thread(thread_slowdown, call, cpus)
            if not kernels.releases_gil(call.workload, call.kernel):
                plan = probe_plan(call.workload, call.kernel, StrategyName.CONCURRENT_FUTURES)
                await pool.ensure(cpus, plan)
                in_processes = await process_slowdown(pool, call, cpus)
            each.note_slowdowns(in_threads, in_processes)
            await self._note_done(COMPANY_SECONDS)

    async def _time_kernels(self, times: Sequence[KernelTimes]) -> None:
        for _ in range(ROUNDS):
            for each in times:
                await asyncio.to_thread(each.measure)
        await self._note_done(KERNEL_SECONDS)


def _planned_seconds(
    kernel_count: int, experiments: Sequence[Experiment], alone: Sequence[Experiment]
) -> float:
    """Typical seconds of everything; pools are set up twice."""
    runs = typical_seconds(experiments, RUN_ROUNDS) + typical_seconds(alone, ALONE_ROUNDS)
    company = 2 * kernel_count * COMPANY_SECONDS
    return runs + 3 * KERNEL_SECONDS + company + 2 * SETUP_SECONDS


def _cheapest(available: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """What measures strategies: one that leaves other threads alone, where there is one."""
    return max(available, key=lambda each: kernels.get_kernel(*each).releases_gil)
