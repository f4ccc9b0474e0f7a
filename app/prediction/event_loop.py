"""The event loop in the cost model: what a group costs it, and when all groups have waited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log

from hotloop.app.prediction.waiting import Waits
from hotloop.app.runhost.calibrate.constants import IN_FLIGHT, LoopCosts
from hotloop.app.sources.base import Stage


@dataclass(frozen=True, slots=True)
class EventLoop:
    """Where the groups of one plan wait for its stages, of which there is at least one."""

    costs: LoopCosts
    stages: Sequence[Stage]
    waits: Waits
    """Of a group."""
    groups_of_batch: float

    def group_seconds(self, in_flight: float) -> float:
        """What each group costs, with its share of the batch."""
        further = sum(_at(self.costs.stage_seconds, there) for there in self._further(in_flight))
        return self._first_stage(in_flight) + further

    def _group_in_step(self, in_flight: float) -> float:
        """The same while all wait for the first time: as with few in a further stage."""
        further = (len(self.stages) - 1) * self.costs.stage_seconds[0]
        return self._first_stage(in_flight) + further

    def _first_stage(self, in_flight: float) -> float:
        batch = self.costs.batch_seconds / max(1.0, self.groups_of_batch)
        return _at(self.costs.item_seconds, in_flight) + batch

    def _further(self, in_flight: float) -> list[float]:
        """For each stage but the first, with how many in flight it was measured as it is here.

        A stage has as many of them as it has a part of their time (Little's law): of the waiting,
        and of the queue for a busy event loop, where all stages have the same part, as in the runs
        that were measured.
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
        """Until so many groups have waited.

        Those that begin to wait together go on together, the last of a wave after all others of
        it; uneven waits have no last wave. A busy event loop has nothing to do until the first
        group goes on.
        """
        each, first, task = (
            self.group_seconds(in_flight),
            self._group_in_step(in_flight),
            self.costs.task_seconds,
        )
        begun = min(groups, in_flight)
        whole = (ceil(groups / in_flight) - 1) * in_flight
        last = groups - whole + self.waits.unevenness * (begun - groups + whole)
        ends = [
            self.waits.in_turns(groups, in_flight) + last * (each if whole else first),
            self.waits.shortest + begun * first + (groups - begun) * each,
        ]
        if whole:  # the last of the wave before may be later
            before = begun * (each if whole > in_flight else first)
            ends.append(self.waits.in_turns(whole, in_flight) + before)
        return begun * task + max(ends)


def _at(measured: Sequence[float], in_flight: float) -> float:
    """Between the numbers in flight that were measured straight over their logarithm; beyond the
    largest as between the last two.
    """
    if in_flight <= IN_FLIGHT[0]:
        return measured[0]
    found = 0.0
    for (few, many), (low, high) in zip(pairwise(IN_FLIGHT), pairwise(measured), strict=True):
        found = low + (high - low) * log(in_flight / few) / log(many / few)
        if in_flight <= many:
            break
    return found
