"""A median and how far it can be trusted."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RESAMPLES: Final = 2_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with the bounds of its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """`1.02 (1.01 … 1.05)`"""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} … {self.high:,.{digits}f})"


def interval(values: Sequence[float]) -> Interval:
    """Of at least one value; the same values give the same interval."""
    generator = random.Random(20_000)
    medians = sorted(
        statistics.median(generator.choices(values, k=len(values))) for _ in range(RESAMPLES)
    )
    return Interval(
        statistics.median(values),
        medians[int(0.025 * RESAMPLES)],
        medians[int(0.975 * RESAMPLES)],
    )


def ratios(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Of the ratios round by round, so that a change of pace counts on both sides."""
    return interval([value / base for value, base in zip(values, baseline, strict=True)])
