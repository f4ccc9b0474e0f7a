"""Runs of a run host that are made to be timed, in pools of their own."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from app.names import StrategyName
from app.runhost.execution import Send, Surroundings, execute
from app.strategies.base import Plan, Strategy


class Experiment(NamedTuple):
    """A run that is timed so many times in each round; if it is long, it needs no warming up."""

    what: str
    plan: Plan
    times: int = 1
    is_long: bool = False


Medians = Mapping[tuple[StrategyName, str], float]
"""Seconds, by the strategy of an experiment and what it measures."""


class TimedRuns:
    """Their results leave as those of any run do, as that takes its part of the CPUs."""

    def __init__(
        self, strategies: Mapping[StrategyName, Strategy], around: Surroundings, send: Send
    ) -> None:
        self._strategies = strategies
        self._around = around
        self._send = send

    async def in_turns(self, experiments: Sequence[Experiment], rounds: int) -> Medians:
        """In rounds of all of them, so that a change of pace counts on all sides, after one that
        only warms up. Raises what ended a run.
        """
        seconds = defaultdict[tuple[StrategyName, str], list[float]](list)
        for number in range(1 + rounds):
            for what, plan, times, is_long in experiments:
                if is_long and number == 0:
                    continue
                measured = [await self._seconds(plan) for _ in range(times)]
                if number > 0:
                    seconds[plan.strategy, what] += measured
        return {key: statistics.median(of) for key, of in seconds.items()}

    async def _seconds(self, plan: Plan) -> float:
        """Of one run, as its result would tell."""
        strategy = self._strategies[plan.strategy]
        report = await execute(plan, strategy, self._around, self._send)
        if report.error is not None:
            raise report.error
        return report.duration_seconds
