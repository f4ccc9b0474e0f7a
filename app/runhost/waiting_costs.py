"""Measuring what waiting costs: late wake-ups, memory, and the event loop's work for each item."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

import kernels
from app.names import StrategyName
from app.runhost.calibration import IN_FLIGHT, LoopCosts, WaitCosts
from app.runhost.kernel_costs import probe_plan
from app.runhost.timed_runs import Experiment, Medians
from app.sources.simulated import GeneratedItems, SimulatedStage
from app.strategies.base import Plan
from app.strategies.registry import CAPABILITIES, STRATEGIES

WAITING: Final = tuple(name for name in STRATEGIES if CAPABILITIES[name].overlaps_io)
"""Strategies that have items wait on the event loop."""

SHORT_RUNS: Final = 3
"""Of milliseconds, in each round."""

SHORT_WAIT_SECONDS: Final = 0.001
"""Waits of this length, 500 at once, keep the event loop busy all the time."""

CROWD_WAIT_SECONDS: Final = 1e-6
"""For each of thousands in flight: most have begun to wait when the first goes on."""

ITEMS_OF_A_TASK: Final = dict(zip(IN_FLIGHT, (4, 6, 2), strict=True))
"""By the number in flight: items one after another for each task, in runs that are long enough."""

LONG_RUN: Final = 10_000
"""Items."""

SMALL_BATCH, USUAL_BATCH = 5, 500

WAITS: Final = 30
OVERSHOOT_ROUNDS: Final = 3

SHORT: Final = SimulatedStage("db", SHORT_WAIT_SECONDS, SHORT_WAIT_SECONDS)
UNEVEN: Final = SimulatedStage("cache", SHORT_WAIT_SECONDS, 2 * SHORT_WAIT_SECONDS)
"""As most are: items no longer go on together."""

OF_ALL_LENGTHS: Final = SimulatedStage("db", SHORT_WAIT_SECONDS, 3 * SHORT_WAIT_SECONDS)
"""As the clock of the event loop has ticks."""


@dataclass(frozen=True, slots=True)
class WaitingTimes:
    """Runs whose items wait and do nothing else."""

    workload: str
    kernel: str
    workers: int

    def experiments(self) -> Iterator[Experiment]:
        waits = self._plan(StrategyName.HYBRID, WAITS, 1, WAITS, OF_ALL_LENGTHS)
        yield Experiment("waits", waits)
        for name in WAITING:
            hybrid, few = name is StrategyName.HYBRID, IN_FLIGHT[0]
            count = few * ITEMS_OF_A_TASK[few]
            yield Experiment("one stage", self._plan(name, count, few, count, SHORT), SHORT_RUNS)
            two = self._plan(name, count, few, count, SHORT, UNEVEN)
            yield Experiment("two stages", two, SHORT_RUNS)
            if hybrid:
                batches = self._plan(name, count, few, SMALL_BATCH, SHORT)
                yield Experiment("small batches", batches)
            for many in IN_FLIGHT[1:]:
                stage = SimulatedStage("db", many * CROWD_WAIT_SECONDS, many * CROWD_WAIT_SECONDS)
                count = many * ITEMS_OF_A_TASK[many]
                # In small batches of `hybrid`, a task ends before there is a next item for it.
                first = self._plan(name, many, many, USUAL_BATCH if hybrid else many, stage)
                more = self._plan(name, count, many, many if hybrid else count, stage)
                yield Experiment(_first(many), first, is_long=many > LONG_RUN)
                yield Experiment(_more(many), more, is_long=count > LONG_RUN)

    def _plan(
        self,
        strategy: StrategyName,
        count: int,
        in_flight: int,
        batch_size: int,
        *stages: SimulatedStage,
    ) -> Plan:
        return probe_plan(
            self.workload,
            self.kernel,
            strategy,
            items=GeneratedItems(count),
            batch_size=batch_size,
            workers=self.workers,
            io_concurrency=in_flight,
            stages=stages,
        )


def _first(many: int) -> str:
    return f"{many} at once"


def _more(many: int) -> str:
    return f"{many} at once of more"


async def wait_costs(seconds: Medians) -> WaitCosts:
    waited = seconds[StrategyName.HYBRID, "waits"] / WAITS
    return WaitCosts(
        overshoot_seconds=await asyncio.to_thread(_overshoot, SHORT),
        async_overshoot_seconds=max(0.0, waited - OF_ALL_LENGTHS.seconds_per_call),
        in_flight_bytes=await _in_flight_bytes(),
    )


def loop_costs(seconds: Medians) -> dict[str, LoopCosts]:
    """By strategy."""
    return {str(name): _loop_costs(name, seconds) for name in WAITING}


def _loop_costs(name: StrategyName, seconds: Medians) -> LoopCosts:
    start, one, few = seconds[name, "start"], seconds[name, "one stage"], IN_FLIGHT[0]
    items, tasks = [], []
    for many in IN_FLIGHT[1:]:
        first, more = seconds[name, _first(many)], seconds[name, _more(many)]
        items.append(max(0.0, more - first) / (many * (ITEMS_OF_A_TASK[many] - 1)))
        tasks.append(max(0.0, first / many - CROWD_WAIT_SECONDS - items[-1]))
    task, count = statistics.mean(tasks), few * ITEMS_OF_A_TASK[few]
    item = max(1e-9, one - start - few * task) / count
    stage = min(item, max(0.0, seconds[name, "two stages"] - one) / count)
    small = seconds.get((name, "small batches"), one)
    return LoopCosts(
        item_seconds=item - stage,
        stage_seconds=stage,
        task_seconds=task,
        crowding=tuple(accumulate((each / item for each in items), max, initial=1.0)),
        batch_seconds=max(0.0, small - one) / (count / SMALL_BATCH - 1),
    )


def _overshoot(stage: SimulatedStage) -> float:
    """Seconds that a wait of a worker takes longer than asked."""
    batch = GeneratedItems(WAITS).load(kernels.workloads()[0], 0, WAITS)
    stop = threading.Event()
    seconds = []
    for _ in range(OVERSHOOT_ROUNDS):
        started = time.perf_counter()
        stage.fetch(batch, range(WAITS), stop)
        seconds.append(time.perf_counter() - started)
    return max(0.0, statistics.median(seconds) / WAITS - stage.seconds_per_call)


async def _in_flight_bytes() -> int:
    """Of one wait on the event loop, with the task that waits."""
    count = IN_FLIGHT[0]
    batch = GeneratedItems(count).load(kernels.workloads()[0], 0, count)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        async with asyncio.TaskGroup() as tasks:
            for position in range(count):
                tasks.create_task(SHORT.fetch_async(batch, range(position, position + 1)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return max(0, peak - before) // count
