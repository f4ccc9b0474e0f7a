"""Calibrating: short runs in a run host that measure every constant of the cost model.

Pools of its own, so that those of the run host stay as they are. Each experiment is made several
times over, interleaved with others where it matters, and its fastest round counts.
"""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import kernels
from app.names import StrategyName
from app.runhost.calibration import Calibration, KernelCosts, StrategyCosts, WaitCosts
from app.runhost.config import RunHostConfig
from app.runhost.execution import Surroundings, execute
from app.runhost.frames import encode_frame
from app.runhost.kernel_costs import (
    ROUNDS,
    KernelTimes,
    probe_plan,
    process_slowdown,
    thread_slowdown,
)
from app.runhost.messages import Batches
from app.sources.simulated import GeneratedItems, SimulatedStage
from app.strategies.base import BatchResult, Plan
from app.strategies.pools import PoolLimits, Pools
from app.strategies.registry import CAPABILITIES, STRATEGIES, uses_processes

START_RUNS: Final = 10
"""Runs of milliseconds, which need more rounds for an undisturbed one."""

BATCHES: Final = 32
ITEMS: Final = 50_000
"""Of a run of one batch that measures what an item costs beside its kernel."""

WAITING_ITEMS: Final = 2_000
IN_FLIGHT: Final = 500
SHORT_WAIT_SECONDS: Final = 0.001
"""Two thousand waits of this length, 500 at once, keep the event loop busy all the time."""

LONG_WAIT_SECONDS: Final = 0.03
"""Longer than it takes to have that many items wait."""

WAITS: Final = 30

_ASYNC: Final = (StrategyName.HYBRID, StrategyName.ASYNC_BATCH)


class Calibrating:
    """One calibration. `run` it once."""

    def __init__(
        self,
        config: RunHostConfig,
        around: Surroundings,
        available: Sequence[tuple[str, str]],
    ) -> None:
        """`available` are workloads and kernels that are warm."""
        self._available = available
        self._config = config
        self._around = around
        self._cpus = config.usable_cpus
        limits = PoolLimits(
            max(self._cpus, config.max_worker_threads), max(self._cpus, config.max_worker_processes)
        )
        self._pools = Pools(limits, config.instruction_set)
        self._strategies = {name: make(self._pools) for name, make in STRATEGIES.items()}

    async def run(self) -> Calibration:
        started = time.perf_counter()
        try:
            base_bytes = await asyncio.to_thread(self._around.gauge.read)
            times = await asyncio.to_thread(_time_kernels, self._available)
            setup, worker_bytes = await self._set_up(base_bytes, times[0])
            costs = [await self._kernel(each) for each in times]
            cheapest = _cheapest(costs)
            workload, kernel = cheapest.workload, cheapest.kernel
            strategies = {
                name: await self._strategy(name, cheapest, setup[name], worker_bytes)
                for name in STRATEGIES
            }
            waits = await self._waits(workload, kernel)
            message_seconds = await self._message_seconds(workload, kernel)
        finally:
            for strategy in self._strategies.values():
                await strategy.close()
            await self._pools.close()
        return Calibration(
            usable_cpus=self._cpus,
            max_threads=self._config.max_worker_threads,
            max_processes=self._config.max_worker_processes,
            kernels=tuple(costs),
            strategies={str(name): found for name, found in strategies.items()},
            waits=waits,
            message_seconds=message_seconds,
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
                times.workload, times.kernel, name, workers=self._cpus, items=GeneratedItems(1)
            )
            started = time.perf_counter()
            await strategy.prepare(plan)
            setup[name] = time.perf_counter() - started
        self._around.gauge.look_around()
        held = await asyncio.to_thread(self._around.gauge.read)
        return setup, max(0, held - base_bytes) // (2 * self._cpus)

    async def _kernel(self, times: KernelTimes) -> KernelCosts:
        workload, kernel = times.workload, times.kernel
        plan = probe_plan(workload, kernel, StrategyName.CONCURRENT_FUTURES)
        await self._pools.executor.ensure(self._cpus, plan)
        in_threads = await asyncio.to_thread(thread_slowdown, workload, kernel, self._cpus)
        in_processes = await process_slowdown(self._pools.executor, workload, kernel, self._cpus)
        return times.costs(in_threads, in_processes)

    async def _strategy(
        self,
        name: StrategyName,
        kernel: KernelCosts,
        setup_seconds: float,
        worker_bytes: int,
    ) -> StrategyCosts:
        def plan(count: int, batch_size: int) -> Plan:
            items = GeneratedItems(count)
            return probe_plan(
                kernel.workload,
                kernel.kernel,
                name,
                items=items,
                batch_size=batch_size,
                workers=self._cpus,
            )

        start = await _fastest(START_RUNS, lambda: self._seconds(plan(1, 1)))
        batches = await _fastest(START_RUNS, lambda: self._seconds(plan(BATCHES, 1)))
        items = await _fastest(ROUNDS, lambda: self._seconds(plan(ITEMS, ITEMS)))
        busy = self._cpus if CAPABILITIES[name].parallel else 1
        in_processes = uses_processes(name, releases_gil=True)
        return StrategyCosts(
            start_seconds=start,
            # The kernel's call counts by itself; several workers make it side by side.
            batch_seconds=max(0.0, (batches - start) / (BATCHES - 1) - kernel.call_seconds / busy),
            item_seconds=max(0.0, items - start) / (ITEMS - 1),
            setup_seconds=setup_seconds,
            worker_bytes=worker_bytes if in_processes else 0,
        )

    async def _message_seconds(self, workload: str, kernel: str) -> float:
        """A run as short as those of `_strategy` is over before most of its results are sent."""
        plan = probe_plan(
            workload, kernel, StrategyName.THREADING, items=GeneratedItems(BATCHES), batch_size=1
        )
        results: list[BatchResult] = []

        async def keep(event: object) -> None:
            if isinstance(event, Batches):
                results.extend(event.results)

        await execute(plan, self._strategies[plan.strategy], self._around, keep)
        message = Batches(tuple(results))
        seconds = []
        for _ in range(START_RUNS):
            started = time.perf_counter()
            encode_frame(message)
            seconds.append(time.perf_counter() - started)
        return min(seconds) / len(results)

    async def _waits(self, workload: str, kernel: str) -> WaitCosts:
        async def seconds(count: int, in_flight: int, *stages: SimulatedStage) -> float:
            plan = probe_plan(
                workload,
                kernel,
                StrategyName.HYBRID,
                items=GeneratedItems(count),
                batch_size=in_flight,
                io_concurrency=in_flight,
                stages=stages,
            )
            return await _fastest(ROUNDS, lambda: self._seconds(plan))

        short = SimulatedStage("db", SHORT_WAIT_SECONDS, SHORT_WAIT_SECONDS)
        one = await seconds(WAITING_ITEMS, IN_FLIGHT, short) / WAITING_ITEMS
        two = await seconds(WAITING_ITEMS, IN_FLIGHT, short, short) / WAITING_ITEMS
        stage = max(0.0, two - one)
        # Of all lengths, as the clock has ticks.
        uneven = SimulatedStage("db", SHORT_WAIT_SECONDS, 3 * SHORT_WAIT_SECONDS)
        alone = await seconds(WAITS, 1, uneven) / WAITS
        long = SimulatedStage("db", LONG_WAIT_SECONDS, LONG_WAIT_SECONDS)
        wave = await seconds(WAITING_ITEMS, WAITING_ITEMS, long) - LONG_WAIT_SECONDS
        return WaitCosts(
            overshoot_seconds=await asyncio.to_thread(_overshoot, short),
            async_overshoot_seconds=max(0.0, alone - uneven.seconds_per_call),
            async_item_seconds=max(0.0, one - stage),
            async_stage_seconds=stage,
            async_wave_seconds=max(0.0, wave) / WAITING_ITEMS,
            in_flight_bytes=await _in_flight_bytes(),
        )

    async def _seconds(self, plan: Plan) -> float:
        """Of a run, as its result would tell."""
        strategy = self._strategies[plan.strategy]
        report = await execute(plan, strategy, self._around, _pretend_to_send)
        if report.error is not None:
            raise report.error
        return report.duration_seconds


async def _pretend_to_send(event: object) -> None:
    encode_frame(event)


def _time_kernels(available: Sequence[tuple[str, str]]) -> list[KernelTimes]:
    times = [KernelTimes(workload, kernel) for workload, kernel in available]
    for _ in range(ROUNDS):
        for each in times:
            each.measure()
    return times


def _cheapest(costs: Sequence[KernelCosts]) -> KernelCosts:
    """What measures strategies: one that leaves other threads alone, where there is one."""
    return max(costs, key=lambda each: each.releases_gil)


async def _fastest(rounds: int, measure: Callable[[], Awaitable[float]]) -> float:
    return min([await measure() for _ in range(rounds)])


def _overshoot(stage: SimulatedStage) -> float:
    """Seconds that a wait of a worker takes longer than asked."""
    batch = GeneratedItems(WAITS).load(kernels.workloads()[0], 0, WAITS)
    stop = threading.Event()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        stage.fetch(batch, range(WAITS), stop)
        seconds.append(time.perf_counter() - started)
    return max(0.0, min(seconds) / WAITS - stage.seconds_per_call)


async def _in_flight_bytes() -> int:
    """Of one wait on the event loop, with the task that waits."""
    stage = SimulatedStage("db", SHORT_WAIT_SECONDS, SHORT_WAIT_SECONDS)
    batch = GeneratedItems(IN_FLIGHT).load(kernels.workloads()[0], 0, IN_FLIGHT)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        async with asyncio.TaskGroup() as tasks:
            for position in range(IN_FLIGHT):
                tasks.create_task(stage.fetch_async(batch, range(position, position + 1)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return max(0, peak - before) // IN_FLIGHT
