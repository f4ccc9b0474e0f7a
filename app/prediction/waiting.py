"""Expected waiting times of a group in a worker, and of many groups on the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log
from typing import Final

from hotloop.app.runhost.calibrate.constants import IN_FLIGHT, LoopCosts
from hotloop.app.sources.base import Stage
from hotloop.app.sources.simulated import SimulatedStage

UNEVEN: Final = 4.0
"""Factor of deviation ÷ mean: waits with a quarter of their mean or more are fully out of step."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that one group waits in all stages together."""

    shortest: float
    mean: float
    longest: float

    @property
    def unevenness(self) -> float:
        """Unevenness from 0, for equal waits, to 1, for waits that do not keep step."""
        if self.mean <= 0:
            return 0.0
        deviation = (self.longest - self.shortest) / 12**0.5  # of a uniform distribution
        return min(1.0, UNEVEN * deviation / self.mean)

    def slowest_of(self, count: float) -> float:
        """Return the expected longest of `count` waits: for n uniform numbers n ÷ (n + 1)."""
        return self.shortest + (self.longest - self.shortest) * count / (count + 1)

    def in_turns(self, groups: float, fetchers: int) -> float:
        """Return the seconds until all groups have waited, if a free fetcher takes the next group.

        Even waits go in ⌈groups ÷ fetchers⌉ waves. Uneven waits keep all fetchers busy until no
        group is left to take; then the last waits end `longest` − E[x²] ÷ 2 E[x] later than the
        average one (the residual life of a renewal process).
        """
        if groups <= fetchers:
            return self.slowest_of(groups)
        even = (ceil(groups / fetchers) - 1) * self.mean + self.slowest_of(fetchers)
        if self.unevenness == 0:
            return even
        square = self.mean**2 + (self.longest - self.shortest) ** 2 / 12
        rest = max(0.0, self.longest - square / (2 * self.mean)) * (1 - 1 / fetchers)
        uneven = max(groups * self.mean / fetchers + rest, self.slowest_of(fetchers))
        return (1 - self.unevenness) * even + self.unevenness * uneven


def blocking_seconds(stages: Sequence[Stage], group: float, overshoot_seconds: float) -> float:
    """Return the seconds that a worker waits for a group: one call, or a wait for each item."""
    return sum(
        stage.seconds_per_call
        if stage.batched
        else group * (stage.seconds_per_call + overshoot_seconds)
        for stage in stages
    )


def waits_at_once(stages: Sequence[Stage], group: int, overshoot_seconds: float) -> Waits:
    """Return the waits of a group on the event loop, where its items wait side by side."""
    shortest = mean = longest = 0.0
    for stage in stages:
        low = high = middle = stage.seconds_per_call
        if isinstance(stage, SimulatedStage):
            low, high = stage.low_seconds, stage.high_seconds
            middle = low + (high - low) * group / (group + 1)
        late = 0.0 if stage.batched else overshoot_seconds
        shortest, mean, longest = shortest + low + late, mean + middle + late, longest + high + late
    return Waits(shortest, mean, longest)


@dataclass(frozen=True, slots=True)
class EventLoop:
    """The event loop on which the groups of a plan wait for its one or more stages."""

    costs: LoopCosts
    stages: Sequence[Stage]
    waits: Waits
    """The waits of a group."""
    groups_of_batch: float

    def group_seconds(self, in_flight: float) -> float:
        """Return the event loop's seconds for a group, with its share of the batch."""
        further = sum(_at(self.costs.stage_seconds, there) for there in self._further(in_flight))
        return self._first_stage(in_flight) + further

    def _group_in_step(self, in_flight: float) -> float:
        """Return `group_seconds` while all groups wait for the first time: further stages cost as
        much as with few groups in flight.
        """
        further = (len(self.stages) - 1) * self.costs.stage_seconds[0]
        return self._first_stage(in_flight) + further

    def _first_stage(self, in_flight: float) -> float:
        batch = self.costs.batch_seconds / max(1.0, self.groups_of_batch)
        return _at(self.costs.item_seconds, in_flight) + batch

    def _further(self, in_flight: float) -> list[float]:
        """Return for each stage after the first the number in flight whose measured costs apply.

        A stage has the same part of the groups in flight as it has of their time (Little's law).
        That time is the wait plus the queue for a busy event loop, which is spread evenly over the
        stages, as in the measured runs.
        """
        waiting = [stage.seconds_per_call for stage in self.stages]
        count, total = len(waiting), sum(waiting)
        busy = _at(self.costs.item_seconds, in_flight)
        busy += (count - 1) * _at(self.costs.stage_seconds, in_flight)
        queue = max(0.0, in_flight * busy - total)
        if total + queue == 0:
            return [in_flight] * (count - 1)
        parts = [(seconds + queue / count) / (total + queue) for seconds in waiting[1:]]
        return [in_flight * min(1.0, count * part) for part in parts]

    def fetch_seconds(self, groups: int, in_flight: int) -> float:
        """Return the seconds until `groups` groups have waited.

        Groups that begin to wait together go on together, the last of a wave after all others of
        the wave; uneven waits have no last wave. Even a busy event loop is idle until the first
        group goes on.
        """
        each, first = self.group_seconds(in_flight), self._group_in_step(in_flight)
        begun = min(groups, in_flight)
        whole = (ceil(groups / in_flight) - 1) * in_flight
        last = groups - whole + self.waits.unevenness * (begun - groups + whole)
        ends = [
            self.waits.in_turns(groups, in_flight) + last * (each if whole else first),
            self.waits.shortest + begun * first + (groups - begun) * each,
        ]
        if whole:  # the last group of the wave before may end later
            before = begun * (each if whole > in_flight else first)
            ends.append(self.waits.in_turns(whole, in_flight) + before)
        return begun * self.costs.task_seconds + max(ends)


def _at(measured: Sequence[float], in_flight: float) -> float:
    """Interpolate the cost with `in_flight` groups in flight from the costs `measured` with
    IN_FLIGHT: a straight line over the logarithm, extrapolated above and level below.
    """
    if in_flight <= IN_FLIGHT[0]:
        return measured[0]
    found = 0.0
    for (few, many), (low, high) in zip(pairwise(IN_FLIGHT), pairwise(measured), strict=True):
        found = low + (high - low) * log(in_flight / few) / log(many / few)
        if in_flight <= many:
            break
    return found
