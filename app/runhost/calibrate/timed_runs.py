"""Timed runs of a run host: their plans, their order, and the medians of their seconds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.runhost.execution import HostResources, Send, execute
from hotloop.app.runhost.measuring import NoGauge
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan, Strategy
from hotloop.app.strategies.batching import batch_count

RUN_SECONDS: Final = 0.01
BATCH_SECONDS: Final = 0.5e-3
WAITING_SECONDS: Final = 15e-6
"""Typical seconds of a run, of each of its batches, and of each item and stage that waits on a busy
event loop, used only to report the progress of a calibration."""


def probe_plan(workload: str, kernel: str, strategy: StrategyName, **fields: object) -> Plan:
    """Return a plan of one item without operations, to measure the cost of a strategy itself;
    `fields` replace fields of the plan.
    """
    values: dict[str, object] = {
        "workload": workload,
        "kernel": kernel,
        "strategy": strategy,
        "items": GeneratedItems(1),
        "stages": (),
        "parameters": kernels.get_workload(workload).idle_parameters,
        "batch_size": 1,
        "workers": 1,
        "io_concurrency": 1,
    }
    return Plan(**(values | fields))  # type: ignore[arg-type]


class Experiment(NamedTuple):
    """A run that is timed `times` times in each round."""

    what: str
    """The name of the measured quantity, under which its seconds are found."""
    plan: Plan
    times: int = 1
    is_long: bool = False
    """True if the run is so long that it needs no warm-up run."""
    rounds: int | None = None
    """The number of rounds that include the experiment; None means all."""

    @property
    def typical_seconds(self) -> float:
        """Rough seconds of one run."""
        plan = self.plan
        waiting = plan.item_count * len(plan.stages) * WAITING_SECONDS
        return RUN_SECONDS + batch_count(plan) * BATCH_SECONDS + waiting


Medians = Mapping[tuple[StrategyName, str], float]
"""Seconds, by the strategy of an experiment and what it measures."""

Done = Callable[[float], Awaitable[None]]
"""Called after each run with its typical seconds."""


class TimedRuns:
    """Executes experiments and sends their results to the API as runs do, because sending takes its
    share of the CPUs.
    """

    def __init__(
        self,
        strategies: Mapping[StrategyName, Strategy],
        usable_cpus: int,
        send: Send,
        done: Done,
    ) -> None:
        self._strategies = strategies
        self._resources = HostResources(usable_cpus, NoGauge())
        self._send = send
        self._done = done

    async def in_turns(self, experiments: Sequence[Experiment], rounds: int) -> Medians:
        """Time all experiments in rounds, so that a change of the machine's pace affects all of
        them alike. Raises the error that ended a run.
        """
        seconds = defaultdict[tuple[StrategyName, str], list[float]](list)
        for each, number in schedule(experiments, rounds):
            taken = await self._seconds(each.plan)
            await self._done(each.typical_seconds)
            if number > 0:
                seconds[each.plan.strategy, each.what].append(taken)
        return {key: statistics.median(of) for key, of in seconds.items()}

    async def _seconds(self, plan: Plan) -> float:
        """Execute the plan and return its `duration_seconds`."""
        report = await execute(plan, self._strategies[plan.strategy], self._resources, self._send)
        if report.error is not None:
            raise report.error
        assert report.measured.duration_seconds is not None
        return report.measured.duration_seconds


def schedule(experiments: Sequence[Experiment], rounds: int) -> list[tuple[Experiment, int]]:
    """Return all runs in order, with the number of their round. Round 0 is an untimed warm-up
    without long experiments.
    """
    planned = [(each, 0) for each in experiments if not each.is_long]
    for number in range(1, 1 + rounds):
        for each in experiments:
            if each.rounds is None or number <= each.rounds:
                planned += [(each, number)] * each.times
    return planned


def typical_seconds(experiments: Sequence[Experiment], rounds: int) -> float:
    """Return the rough seconds of `in_turns`."""
    return sum(each.typical_seconds for each, _ in schedule(experiments, rounds))
