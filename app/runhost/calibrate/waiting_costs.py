"""Measuring the costs of waiting: late wake-ups, memory, the event loop's work for each item."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.constants import IN_FLIGHT, LoopCosts, WaitCosts
from hotloop.app.runhost.calibrate.timed_runs import Experiment, Medians, probe_plan
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import CAPABILITIES, STRATEGIES

WAITING: Final = tuple(name for name in STRATEGIES if CAPABILITIES[name].overlaps_io)
"""The strategies whose items wait on the event loop."""

MANY_ON: Final = StrategyName.HYBRID
"""The strategy on which large numbers in flight are measured. They cost more than small ones
because items no longer fit into the caches, which is the same for every strategy."""

EACH_WAITS: Final = 2e-6
"""Seconds that an item waits for each item in flight: less than the event loop needs for one, so
that it is busy all the time."""

ITEMS_OF_A_TASK: Final = dict(zip(IN_FLIGHT, (4, 2, 2), strict=True))
"""Items that each task waits for, one after another, by the number in flight: enough for runs that
are long enough."""

ROUNDS_OF: Final = dict(zip(IN_FLIGHT, (None, 1, 1), strict=True))
"""The rounds of runs by the number in flight; None is all of them. The longest runs average over
disturbances of milliseconds."""

FIRST: Final = f"{IN_FLIGHT[0]} at once"
"""The run in which each task waits for one item."""

SMALL: Final = "small batches"
SMALL_BATCH: Final = 5
"""Items of a batch in the run that measures the event loop's cost of a batch of `hybrid`."""

WAITS: Final = 30
OVERSHOOT_ROUNDS: Final = 3

SHORT: Final = SimulatedStage("db", 0.001, 0.001)

OF_ALL_LENGTHS: Final = SimulatedStage("db", 0.001, 0.003)
"""A stage whose waits also end between the ticks of the event loop's clock."""


@dataclass(frozen=True, slots=True)
class WaitingTimes:
    """The runs whose items wait and do nothing else."""

    workload: str
    kernel: str
    workers: int

    def experiments(self) -> Iterator[Experiment]:
        waits = self._plan(StrategyName.HYBRID, WAITS, 1, WAITS, OF_ALL_LENGTHS)
        yield Experiment("waits", waits)
        few = IN_FLIGHT[0]
        for name in WAITING:
            first = self._plan(name, few, few, few, *_stages(few)[:1])
            yield Experiment(FIRST, first)
            for what, plan in self._longer(name, few):
                yield Experiment(what, plan)
        for many in IN_FLIGHT[1:]:
            for what, plan in self._longer(MANY_ON, many):
                yield Experiment(what, plan, is_long=True, rounds=ROUNDS_OF[many])
        count = few * ITEMS_OF_A_TASK[few]
        small = self._plan(StrategyName.HYBRID, count, few, SMALL_BATCH, *_stages(few)[:1])
        yield Experiment(SMALL, small, is_long=True, rounds=1)

    def _longer(self, name: StrategyName, many: int) -> Iterator[tuple[str, Plan]]:
        """Runs in which each task waits for several items, in one stage and in two."""
        stages, count = _stages(many), many * ITEMS_OF_A_TASK[many]
        yield _more(many), self._plan(name, count, many, count, *stages[:1])
        yield _two(many), self._plan(name, count, many, count, *stages)

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


def _more(many: int) -> str:
    return f"{many} at once of more"


def _two(many: int) -> str:
    return f"{many} at once in two stages"


def _stages(many: int) -> tuple[SimulatedStage, SimulatedStage]:
    """Return stages with even and with uneven waits; after uneven waits items are out of step."""
    seconds = many * EACH_WAITS
    return SimulatedStage("db", seconds, seconds), SimulatedStage("cache", seconds, 2 * seconds)


async def wait_costs(workload: str, seconds: Medians) -> WaitCosts:
    """Measure the costs of a wait beside the wait itself, with items of `workload`."""
    waited = seconds[StrategyName.HYBRID, "waits"] / WAITS
    return WaitCosts(
        overshoot_seconds=await asyncio.to_thread(_overshoot, workload, SHORT),
        async_overshoot_seconds=max(0.0, waited - OF_ALL_LENGTHS.seconds_per_call),
        in_flight_bytes=await _in_flight_bytes(workload),
    )


def loop_costs(seconds: Medians) -> dict[str, LoopCosts]:
    """Return the costs of the event loop, by the name of the strategy."""
    return {str(name): _loop_costs(name, seconds) for name in WAITING}


def _loop_costs(name: StrategyName, seconds: Medians) -> LoopCosts:
    """Return the constants, from runs that keep the event loop busy.

    Such a run takes a start, a task for each item in flight, the shortest waits of an item, and the
    costs of its items. Items that wait for the first time do so in step, and their further stages
    cost as much as with few in flight.
    """
    few = IN_FLIGHT[0]
    task, item, stage = _with_few(name, seconds)
    measured = _with_few(MANY_ON, seconds)
    items, stages = [item], [stage]
    for many in IN_FLIGHT[1:]:
        its_item, its_stage = _with_many(many, measured, seconds)
        items.append(max(1e-9, item + its_item - measured.item))
        stages.append(max(0.0, stage + its_stage - measured.stage))
    count = few * ITEMS_OF_A_TASK[few]
    one_batch = seconds[name, _more(few)]
    small = seconds.get((name, SMALL), one_batch)
    return LoopCosts(
        item_seconds=tuple(accumulate(items, max)),
        stage_seconds=tuple(accumulate(stages, max)),
        task_seconds=task,
        batch_seconds=max(0.0, small - one_batch) / (count / SMALL_BATCH - 1),
    )


class _WithFew(NamedTuple):
    """Event loop seconds with the fewest items in flight."""

    task: float
    item: float
    stage: float


def _with_few(name: StrategyName, seconds: Medians) -> _WithFew:
    few = IN_FLIGHT[0]
    count, (stage, further) = few * ITEMS_OF_A_TASK[few], _stages(few)
    first, more = seconds[name, FIRST], seconds[name, _more(few)]
    item = max(1e-9, (more - first) / (count - few))
    task = max(0.0, (first - seconds[name, "start"] - stage.low_seconds) / few - item)
    second = seconds[name, _two(few)] - more - further.low_seconds
    return _WithFew(task, item, max(0.0, second / count))


def _with_many(many: int, few: _WithFew, seconds: Medians) -> tuple[float, float]:
    """Return the seconds of an item and a further stage; a task costs as with few in flight."""
    count, (stage, further) = many * ITEMS_OF_A_TASK[many], _stages(many)
    more = seconds[MANY_ON, _more(many)]
    beside = seconds[MANY_ON, "start"] + stage.low_seconds + many * few.task
    second = seconds[MANY_ON, _two(many)] - more - further.low_seconds
    return (more - beside) / count, (second - many * few.stage) / (count - many)


def _overshoot(workload: str, stage: SimulatedStage) -> float:
    """Return the seconds by which a worker's wait is longer than asked."""
    batch = GeneratedItems(WAITS).load(workload, 0, WAITS)
    stop = threading.Event()
    seconds = []
    for _ in range(OVERSHOOT_ROUNDS):
        started = time.perf_counter()
        stage.fetch(batch, range(WAITS), stop)
        seconds.append(time.perf_counter() - started)
    return max(0.0, statistics.median(seconds) / WAITS - stage.seconds_per_call)


async def _in_flight_bytes(workload: str) -> int:
    """Return the bytes of a wait on the event loop, with the task that waits."""
    count = IN_FLIGHT[0]
    batch = GeneratedItems(count).load(workload, 0, count)
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
