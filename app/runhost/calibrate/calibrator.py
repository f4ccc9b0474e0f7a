"""A calibration of a machine: short runs in a run host that measure all constants of the model.

It has its own pools and leaves the run host's pools alone. Each experiment is made several times
and the median counts, because predictions are for usual conditions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final

from hotloop import kernels
from hotloop.app.errors import ClusterLostError, ClusterUnusableError, WorkerCrashedError
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate import kernel_costs, waiting_costs
from hotloop.app.runhost.calibrate.cluster_costs import ClusterTimes
from hotloop.app.runhost.calibrate.constants import Calibration, ClusterCosts, KernelCosts
from hotloop.app.runhost.calibrate.kernel_costs import KernelTimes, Probe
from hotloop.app.runhost.calibrate.strategy_costs import StrategyTimes
from hotloop.app.runhost.calibrate.timed_runs import (
    Experiment,
    TimedRuns,
    probe_plan,
    typical_seconds,
)
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.measuring import MemoryGauge
from hotloop.app.runhost.messages import Batches, CalibrationProgress, Progress, RunStarted
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.pools import PoolLimits, Pools
from hotloop.app.strategies.registry import LOCAL_STRATEGIES, STRATEGIES, uses_processes

logger = logging.getLogger(__name__)

RUN_ROUNDS: Final = 2
SINGLE_WORKER_ROUNDS: Final = 1

KERNEL_SECONDS: Final = 0.1
CONTENTION_SECONDS: Final = 0.15
SETUP_SECONDS: Final = 1.2
"""Typical seconds of the steps that are not runs, used only to report the progress."""

CalibrationSend = Callable[
    [RunStarted | Batches | Progress | BreakerReport | CalibrationProgress], Awaitable[None]
]


class Calibrator:
    """A calibration; call `run` once."""

    def __init__(
        self,
        config: RunHostConfig,
        gauge: MemoryGauge,
        available: Sequence[tuple[str, str]],
        send: CalibrationSend,
    ) -> None:
        """`available` are the pairs of workload and kernel that are warm; `send` takes the results
        of runs and the progress of the calibration.
        """
        self._available = available
        self._config = config
        self._gauge = gauge
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
        self._pools = Pools(limits, config.instruction_set, config.clusters)
        self._strategies = {name: make(self._pools) for name, make in STRATEGIES.items()}
        self._runs = TimedRuns(self._strategies, self._cpus, send, self._note_done)

    async def run(self) -> Calibration:
        """Measure all constants. Raises the error that ended one of the runs."""
        started = time.perf_counter()
        try:
            base_bytes = await asyncio.to_thread(self._gauge.read)
            times = [KernelTimes(*each) for each in self._available]
            await self._time_kernels(times)
            workload, kernel = _cheapest(self._available)
            place = self._available.index((workload, kernel))
            strategies = StrategyTimes.with_kernel(times[place].costs(), self._cpus)
            waiting = waiting_costs.WaitingTimes(workload, kernel, self._cpus)
            experiments = [*strategies.experiments(), *waiting.experiments()]
            single_worker = list(strategies.single_worker())
            self._planned = _planned_seconds(len(times), experiments, single_worker)
            setup, worker_bytes = await self._set_up(base_bytes, times[0])
            calls = [
                kernel_costs.sized_call(each.costs(), kernel_costs.SLOWDOWN_SECONDS)
                for each in times
            ]
            await self._time_contention(times, calls)
            seconds = await self._runs.in_turns(experiments, RUN_ROUNDS)
            # Time them again, seconds later, as the pace of the machine may have changed.
            await self._time_contention(times, calls)
            await self._time_kernels(times)
            # These runs come last, because pools are made anew for them.
            more = await self._runs.in_turns(single_worker, SINGLE_WORKER_ROUNDS)
            seconds = {**seconds, **more}
            await self._note_done(SETUP_SECONDS)
            await self._time_kernels(times)
            costs = tuple(each.costs() for each in times)
            clusters = await self._measure_clusters(costs[place])
            waits = await waiting_costs.wait_costs(workload, seconds)
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
                for name in LOCAL_STRATEGIES
            },
            waits=waits,
            loops=waiting_costs.loop_costs(seconds),
            base_bytes=base_bytes,
            clusters=clusters,
            seconds=time.perf_counter() - started,
        )

    async def _measure_clusters(self, kernel: KernelCosts) -> dict[str, ClusterCosts]:
        """Measure the clusters that are configured; leave out those that cannot be used now."""
        found: dict[str, ClusterCosts] = {}
        for name in self._pools.drivers:
            times = ClusterTimes.with_kernel(name, kernel)
            try:
                found[name] = await times.measure(self._strategies[name], self._runs)
            except (ClusterLostError, ClusterUnusableError, WorkerCrashedError) as error:
                logger.warning("the %s cluster is not calibrated: %s", name, error)
        return found

    async def _note_done(self, seconds: float) -> None:
        self._done += seconds
        await self._send(CalibrationProgress(min(1.0, self._done / self._planned)))

    async def _set_up(
        self, base_bytes: int, times: KernelTimes
    ) -> tuple[dict[StrategyName, float], int]:
        """Return the seconds to bring up the pool of each strategy, and the bytes of a worker
        process.
        """
        setup: dict[StrategyName, float] = {}
        releases_gil = kernels.releases_gil(times.workload, times.kernel)
        items = GeneratedItems(self._cpus)
        for name in LOCAL_STRATEGIES:
            strategy = self._strategies[name]
            plan = probe_plan(times.workload, times.kernel, name, workers=self._cpus, items=items)
            started = time.perf_counter()
            await strategy.prepare(plan)
            setup[name] = time.perf_counter() - started
        # The first pool of processes also started the process that all workers are forked from.
        in_processes = [n for n in setup if uses_processes(n, releases_gil)]
        setup |= dict.fromkeys(in_processes, max(setup[name] for name in in_processes))
        await self._note_done(SETUP_SECONDS)
        self._gauge.look_around()
        held = await asyncio.to_thread(self._gauge.read)
        return setup, max(0, held - base_bytes) // (2 * self._cpus)

    async def _time_contention(self, times: Sequence[KernelTimes], calls: Sequence[Probe]) -> None:
        """Measure how much slower each kernel is while all CPUs compute.

        Processes of a kernel that releases the GIL slow each other down as its threads do, because
        they share the CPUs and nothing else.
        """
        pool, cpus = self._pools.executor, self._cpus
        for each, call in zip(times, calls, strict=True):
            in_threads = in_processes = await asyncio.to_thread(
                kernel_costs.thread_slowdown, call, cpus
            )
            if not kernels.releases_gil(call.workload, call.kernel):
                plan = probe_plan(call.workload, call.kernel, StrategyName.CONCURRENT_FUTURES)
                await pool.ensure(cpus, plan)
                in_processes = await kernel_costs.process_slowdown(pool, call, cpus)
            each.note_slowdowns(in_threads, in_processes)
            await self._note_done(CONTENTION_SECONDS)

    async def _time_kernels(self, times: Sequence[KernelTimes]) -> None:
        for _ in range(kernel_costs.ROUNDS):
            for each in times:
                await asyncio.to_thread(each.measure)
        await self._note_done(KERNEL_SECONDS)


def _planned_seconds(
    kernel_count: int, experiments: Sequence[Experiment], single_worker: Sequence[Experiment]
) -> float:
    """Return the typical seconds of all steps; pools are set up twice."""
    runs = typical_seconds(experiments, RUN_ROUNDS)
    runs += typical_seconds(single_worker, SINGLE_WORKER_ROUNDS)
    contention = 2 * kernel_count * CONTENTION_SECONDS
    return runs + 3 * KERNEL_SECONDS + contention + 2 * SETUP_SECONDS


def _cheapest(available: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the workload and kernel to measure strategies with, one without the GIL if any."""
    return max(available, key=lambda each: kernels.get_kernel(*each).releases_gil)
