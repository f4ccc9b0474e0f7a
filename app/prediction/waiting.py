"""How long items wait for their stages, as expected values: alone, in groups, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from hotloop.app.sources.base import Stage
from hotloop.app.sources.simulated import SimulatedStage

UNEVEN: Final = 4.0
"""Waits whose standard deviation is a quarter of their mean, or more, soon are out of step."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What one group waits, all stages together; seconds."""

    shortest: float
    mean: float
    longest: float

    @property
    def unevenness(self) -> float:
        """0 for waits that all take the same, up to 1 for those that do not keep step."""
        if self.mean <= 0:
            return 0.0
        deviation = (self.longest - self.shortest) / 12**0.5  # of a uniform distribution
        return min(1.0, UNEVEN * deviation / self.mean)

    def slowest_of(self, count: float) -> float:
        """Expected longest of so many at once: of n uniform numbers n ÷ (n + 1)."""
        return self.shortest + (self.longest - self.shortest) * count / (count + 1)

    def in_turns(self, groups: float, fetchers: int) -> float:
        """Until all groups have waited, when each fetcher takes the next as soon as it is free.

        Even waits go in waves, ⌈groups ÷ fetchers⌉ of them. Uneven ones keep all fetchers busy
        until none is left to take; then the last ones end: `longest` − E[x²] ÷ 2 E[x] later than
        the average one does (the residual life of a renewal process).
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
    """What a worker waits for a group: a call for all of it, or a wait for each item."""
    return sum(
        stage.seconds_per_call
        if stage.batched
        else group * (stage.seconds_per_call + overshoot_seconds)
        for stage in stages
    )


def waits_at_once(stages: Sequence[Stage], group: int, overshoot_seconds: float) -> Waits:
    """What a group waits on the event loop, where its items wait side by side."""
    shortest = mean = longest = 0.0
    for stage in stages:
        low = high = middle = stage.seconds_per_call
        if isinstance(stage, SimulatedStage):
            low, high = stage.low_seconds, stage.high_seconds
            middle = low + (high - low) * group / (group + 1)
        late = 0.0 if stage.batched else overshoot_seconds
        shortest, mean, longest = shortest + low + late, mean + middle + late, longest + high + late
    return Waits(shortest, mean, longest)
