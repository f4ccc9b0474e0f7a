"""Runs of a run host that are made to be timed, in pools of their own."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple

from hotloop.app.names import StrategyName
from hotloop.app.runhost.execution import Send, Surroundings, execute
from hotloop.app.runhost.measuring import NoGauge
from hotloop.app.strategies.base import Plan, Strategy
from hotloop.app.strategies.batching import batch_count

RUN_SECONDS: Final = 0.01
BATCH_SECONDS: Final = 0.5e-3
WAITING_SECONDS: Final = 15e-6
"""Typical seconds of a run, of each of its batches, and of each item and stage that waits on a busy
event loop: only for how far a calibration is."""


class Experiment(NamedTuple):
    """A run that is timed `times` times in each round."""

    what: str
    plan: Plan
    times: int = 1
    is_long: bool = False
    """A long run needs no run before it that only warms up."""
    rounds: int | None = None
    """The number of rounds that it takes part in; None is all of them."""

    @property
    def typical_seconds(self) -> float:
        """Rough seconds of one run."""
        plan = self.plan
        waiting = plan.item_count * len(plan.stages) * WAITING_SECONDS
        return RUN_SECONDS + batch_count(plan) * BATCH_SECONDS + waiting


Medians = Mapping[tuple[StrategyName, str], float]
"""Seconds, by the strategy of an experiment and what it measures."""

Done = Callable[[float], Awaitable[None]]
"""Called with the typical seconds of what was just done."""


class TimedRuns:
    """Runs whose results leave as those of any run do, as that takes its part of the CPUs."""

    def __init__(
        self,
        strategies: Mapping[StrategyName, Strategy],
        usable_cpus: int,
        send: Send,
        done: Done,
    ) -> None:
        self._strategies = strategies
        self._around = Surroundings(usable_cpus, NoGauge())
        self._send = send
        self._done = done

    async def in_turns(self, experiments: Sequence[Experiment], rounds: int) -> Medians:
        """Time all experiments in rounds, so that a change of pace counts on all sides. Before the
        first round each one that is not long is run once to warm up. Raises what ended a run.
        """
        seconds = defaultdict[tuple[StrategyName, str], list[float]](list)
        for each, number in schedule(experiments, rounds):
            taken = await self._seconds(each.plan)
            await self._done(each.typical_seconds)
            if number > 0:
                seconds[each.plan.strategy, each.what].append(taken)
        return {key: statistics.median(of) for key, of in seconds.items()}

    async def _seconds(self, plan: Plan) -> float:
        """Of one run, as its result would tell."""
        strategy = self._strategies[plan.strategy]
        report = await execute(plan, strategy, self._around, self._send)
        if report.error is not None:
            raise report.error
        return report.duration_seconds


def schedule(experiments: Sequence[Experiment], rounds: int) -> list[tuple[Experiment, int]]:
    """All runs in the order in which they are made, with the number of their round; round 0 only
    warms up.
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
