"""Which cell is the fastest, if that can be told.

A winner must be apart from every other cell in two ways: its interval ends before theirs begin,
and its median is less by LEAST_DIFFERENCE at least. Whatever is not apart from the fastest is tied
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import mean, stdev
from typing import Final

from hotloop.app.comparison.intervals import Interval, interval

LEAST_DIFFERENCE: Final = 0.05
"""Less than this is no difference: where code and data happen to lie in memory moves programs by as
much, in all rounds of a process alike, so that no number of rounds shows it (Mytkowicz et al.,
"Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009)."""

LONE_ROUND: Final = 3.0
"""One round says nothing of how much rounds vary: it is taken to be right to within this factor."""

FEW: Final = 10
"""Up to so many values the bootstrap interval of a median is too narrow, and Student's is added."""

_STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1, 2, … degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A cell with what it takes for all items."""

    index: int
    interval: Interval
    may_win: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """Indexes of the cells that cannot be told apart from the fastest, which is the first."""

    fastest: tuple[int, ...]
    may_win: bool = True
    """Whether the fastest may be called the winner where it stands alone."""

    @property
    def winner(self) -> int | None:
        return self.fastest[0] if len(self.fastest) == 1 and self.may_win else None


def trusted_interval(seconds: Sequence[float]) -> Interval:
    """95 % interval of the median of at least one round: the bootstrap's, and for FEW rounds as
    far as Student's around their geometric mean goes beyond it.

    From five values the bootstrap can draw nothing beyond their extremes, which hold the median in
    1 - 2 × 0.5**5 = 94 % of all cases, from three in 75 %, and from one in none.
    """
    if len(seconds) == 1:
        (only,) = seconds
        return Interval(only, only / LONE_ROUND, only * LONE_ROUND)
    drawn = interval(seconds)
    if len(seconds) > FEW or min(seconds) <= 0:
        return drawn
    logs = [log(value) for value in seconds]
    reach = _STUDENT[len(logs) - 2] * stdev(logs) / sqrt(len(logs))
    middle = mean(logs)
    return Interval(
        drawn.median,
        min(drawn.low, exp(middle - reach)),
        max(drawn.high, exp(min(middle + reach, 700.0))),
    )


def judge(contenders: Sequence[Contender]) -> Verdict | None:
    """None without contenders."""
    if not contenders:
        return None
    order = sorted(contenders, key=lambda c: (c.interval.median, c.index))
    first = order[0].interval
    together = [c.index for c in order if c is order[0] or not _apart(first, c.interval)]
    return Verdict(tuple(together), order[0].may_win)


def _apart(faster: Interval, slower: Interval) -> bool:
    return faster.high < slower.low and faster.median * (1 + LEAST_DIFFERENCE) < slower.median
