"""Calibrating: short runs in a run host that measure every constant of the cost model.

Pools of its own, so that those of the run host stay as they are. Results go to the API as those of
any run do, as that takes its part of the CPUs. Each experiment is made several times over: of
kernels the fastest counts, of runs the median, as a prediction is for what a usual run meets.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final

import kernels
from app.names import StrategyName
from app.runhost.calibration import (
    FEW_IN_FLIGHT,
    MANY_IN_FLIGHT,
    Calibration,
    KernelCosts,
    LoopCosts,
    StrategyCosts,
    WaitCosts,
)
from app.runhost.config import RunHostConfig
from app.runhost.execution import Send, Surroundings, execute
from app.runhost.kernel_costs import (
    ROUNDS,
    KernelTimes,
    Probe,
    company_probe,
    probe_plan,
    process_slowdown,
    sized_call,
    thread_slowdown,
)
from app.sources.simulated import GeneratedItems, SimulatedStage
from app.strategies.base import Plan
from app.strategies.pools import PoolLimits, Pools
from app.strategies.registry import CAPABILITIES, STRATEGIES, uses_processes

START_RUNS: Final = 10
"""Runs of milliseconds, which need more rounds."""

LOOP_ROUNDS: Final = 4
SHORT_RUNS: Final = 3
"""Of those of milliseconds, in each such round."""

BATCHES: Final = 256
"""Of a run that measures what a batch costs: with BATCH_SECONDS of the kernel each, as long as some
of its results have to be sent before its end."""

BATCH_SECONDS: Final = 150e-6
ITEMS: Final = 50_000
"""Of a run of one batch that measures what an item costs beside its kernel."""

WAITING_ITEMS: Final = 2_000
SHORT_WAIT_SECONDS: Final = 0.001
"""Two thousand waits of this length, 500 at once, keep the event loop busy all the time."""

LONG_WAIT_SECONDS: Final = 0.02
"""So that thousands of items wait before the first of them goes on."""

SMALL_BATCH, USUAL_BATCH = 5, 500

WAITS: Final = 30

SHORT: Final = SimulatedStage("db", SHORT_WAIT_SECONDS, SHORT_WAIT_SECONDS)
LONG: Final = SimulatedStage("db", LONG_WAIT_SECONDS, LONG_WAIT_SECONDS)


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
        self._send = send
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
            times = [KernelTimes(*each) for each in self._available]
            await asyncio.to_thread(_time_kernels, times)
            setup, worker_bytes = await self._set_up(base_bytes, times[0])
            company = [await asyncio.to_thread(company_probe, *each) for each in self._available]
            await self._time_company(times, company)
            workload, kernel = _cheapest(self._available)
            waits = await self._waits(workload, kernel)
            loops = await self._loops(workload, kernel)
            # Once more, seconds later.
            await self._time_company(times, company)
            await asyncio.to_thread(_time_kernels, times)
            costs = [each.costs() for each in times]
            cheapest = costs[self._available.index((workload, kernel))]
            strategies = {
                name: await self._strategy(name, cheapest, setup[name], worker_bytes)
                for name in STRATEGIES
            }
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
            loops=loops,
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

    async def _time_company(self, times: Sequence[KernelTimes], company: Sequence[Probe]) -> None:
        pool, cpus = self._pools.executor, self._cpus
        for each, call in zip(times, company, strict=True):
            plan = probe_plan(call.workload, call.kernel, StrategyName.CONCURRENT_FUTURES)
            await pool.ensure(cpus, plan)
            in_threads = await asyncio.to_thread(thread_slowdown, call, cpus)
            each.note_slowdowns(in_threads, await process_slowdown(pool, call, cpus))

    async def _strategy(
        self,
        name: StrategyName,
        kernel: KernelCosts,
        setup_seconds: float,
        worker_bytes: int,
    ) -> StrategyCosts:
        def plan(count: int, batch_size: int, **fields: object) -> Plan:
            return probe_plan(
                kernel.workload,
                kernel.kernel,
                name,
                items=GeneratedItems(count),
                batch_size=batch_size,
                workers=self._cpus,
                **fields,
            )

        start = await self._median(START_RUNS, plan(1, 1))
        items = max(0.0, await self._median(ROUNDS, plan(ITEMS, ITEMS)) - start) / (ITEMS - 1)
        size, parameters, call = await asyncio.to_thread(
            sized_call, kernel.workload, kernel.kernel, BATCH_SECONDS
        )
        batches = await self._median(ROUNDS, plan(BATCHES * size, size, parameters=parameters))
        # The kernel's calls count by themselves; several workers make them side by side.
        in_processes = uses_processes(name, releases_gil=True)
        slowdown = kernel.process_slowdown if in_processes else kernel.thread_slowdown
        side_by_side = self._cpus / slowdown if CAPABILITIES[name].parallel else 1
        computing = BATCHES * (call / side_by_side + size * items)
        return StrategyCosts(
            start_seconds=start,
            batch_seconds=max(0.0, batches - start - computing) / (BATCHES - 1),
            item_seconds=items,
            setup_seconds=setup_seconds,
            worker_bytes=worker_bytes if in_processes else 0,
        )

    def _waiting(
        self,
        strategy: StrategyName,
        workload: str,
        kernel: str,
        count: int,
        in_flight: int,
        batch_size: int,
        *stages: SimulatedStage,
    ) -> Plan:
        """A run whose items wait and do nothing else."""
        return probe_plan(
            workload,
            kernel,
            strategy,
            items=GeneratedItems(count),
            batch_size=batch_size,
            workers=self._cpus,
            io_concurrency=in_flight,
            stages=stages,
        )

    async def _waits(self, workload: str, kernel: str) -> WaitCosts:
        # Of all lengths, as the clock has ticks.
        uneven = SimulatedStage("db", SHORT_WAIT_SECONDS, 3 * SHORT_WAIT_SECONDS)
        plan = self._waiting(StrategyName.HYBRID, workload, kernel, WAITS, 1, WAITS, uneven)
        seconds = await self._median(ROUNDS, plan)
        return WaitCosts(
            overshoot_seconds=await asyncio.to_thread(_overshoot, SHORT),
            async_overshoot_seconds=max(0.0, seconds / WAITS - uneven.seconds_per_call),
            in_flight_bytes=await _in_flight_bytes(),
        )

    async def _loops(self, workload: str, kernel: str) -> dict[str, LoopCosts]:
        """By strategy. Measured in turns, so that a change of pace counts on all sides."""
        names = [name for name in STRATEGIES if CAPABILITIES[name].overlaps_io]
        seconds: dict[StrategyName, dict[str, list[float]]] = {
            name: defaultdict(list) for name in names
        }
        for number in range(1 + LOOP_ROUNDS):
            for name in names:
                for what, plan, times in self._loop_runs(name, workload, kernel):
                    measured = [await self._seconds(plan) for _ in range(times)]
                    if number > 0:  # the first only warms up
                        seconds[name][what] += measured

        return {
            str(name): _loop_costs({what: statistics.median(of) for what, of in found.items()})
            for name, found in seconds.items()
        }

    def _loop_runs(
        self, name: StrategyName, workload: str, kernel: str
    ) -> Iterator[tuple[str, Plan, int]]:
        """What is measured, and how often in each round."""
        hybrid = name is StrategyName.HYBRID
        waiting, many = partial(self._waiting, name, workload, kernel), MANY_IN_FLIGHT
        few = partial(waiting, WAITING_ITEMS, FEW_IN_FLIGHT)
        yield "one stage", few(WAITING_ITEMS, SHORT), SHORT_RUNS
        yield "two stages", few(WAITING_ITEMS, SHORT, SHORT), SHORT_RUNS
        size = USUAL_BATCH if hybrid else many
        yield "crowd", waiting(many, many, size, LONG), 1
        if hybrid:
            yield "batches", few(SMALL_BATCH, SHORT), 1

    async def _median(self, rounds: int, plan: Plan) -> float:
        """Of so many runs, after one that does not count."""
        await self._seconds(plan)
        return statistics.median([await self._seconds(plan) for _ in range(rounds)])

    async def _seconds(self, plan: Plan) -> float:
        """Of a run, as its result would tell."""
        strategy = self._strategies[plan.strategy]
        report = await execute(plan, strategy, self._around, self._send)
        if report.error is not None:
            raise report.error
        return report.duration_seconds


def _loop_costs(seconds: Mapping[str, float]) -> LoopCosts:
    """Of what `_loop_runs` names."""
    one, crowd = seconds["one stage"], seconds["crowd"]
    batches = seconds.get("batches", one)
    stage = max(0.0, seconds["two stages"] - one) / WAITING_ITEMS
    in_crowd = (crowd - LONG_WAIT_SECONDS) / MANY_IN_FLIGHT
    return LoopCosts(
        item_seconds=max(0.0, one / WAITING_ITEMS - stage),
        stage_seconds=stage,
        crowding=max(1.0, in_crowd / (one / WAITING_ITEMS)),
        batch_seconds=max(0.0, batches - one) / (WAITING_ITEMS / SMALL_BATCH - 1),
    )


def _time_kernels(times: Sequence[KernelTimes]) -> None:
    for _ in range(ROUNDS):
        for each in times:
            each.measure()


def _cheapest(available: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """What measures strategies: one that leaves other threads alone, where there is one."""
    return max(available, key=lambda each: kernels.get_kernel(*each).releases_gil)


def _overshoot(stage: SimulatedStage) -> float:
    """Seconds that a wait of a worker takes longer than asked."""
    batch = GeneratedItems(WAITS).load(kernels.workloads()[0], 0, WAITS)
    stop = threading.Event()
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        stage.fetch(batch, range(WAITS), stop)
        seconds.append(time.perf_counter() - started)
    return max(0.0, statistics.median(seconds) / WAITS - stage.seconds_per_call)


async def _in_flight_bytes() -> int:
    """Of one wait on the event loop, with the task that waits."""
    batch = GeneratedItems(FEW_IN_FLIGHT).load(kernels.workloads()[0], 0, FEW_IN_FLIGHT)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        async with asyncio.TaskGroup() as tasks:
            for position in range(FEW_IN_FLIGHT):
                tasks.create_task(SHORT.fetch_async(batch, range(position, position + 1)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return max(0, peak - before) // FEW_IN_FLIGHT
