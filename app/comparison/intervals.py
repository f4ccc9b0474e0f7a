"""Statistics of rounds: median, 95 % interval, spread and outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import mean, stdev
from typing import Final

import numpy as np

RESAMPLES: Final = 2_000

_SEED: Final = 20_000

OUTLIER_RANGES: Final = 1.5
"""Distance from the quartiles, in interquartile ranges, beyond which a value is an outlier (Tukey,
1977)."""

LONE_ROUND: Final = 3.0
"""Factor for the interval of a single round, which does not show how much rounds vary."""

FEW: Final = 10
"""Number of values up to which the bootstrap interval is too narrow, and is widened to Student's.
"""

_STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's t with 1, 2, … degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A median with the bounds of its 95 % interval."""

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Format the interval as `1.02 (1.01 … 1.05)`."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} … {self.high:,.{digits}f})"


def interval(values: Sequence[float]) -> Interval:
    """Return the bootstrap interval of the median of at least one value; equal values give equal
    intervals.

    The percentile bootstrap (Efron, 1979): the medians of RESAMPLES samples drawn from the values
    with replacement, without the lowest and the highest 2.5 %.
    """
    measured = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(_SEED).integers(0, len(measured), (RESAMPLES, len(measured)))
    medians = np.sort(np.median(measured[drawn], axis=1))
    return Interval(
        float(np.median(measured)),
        float(medians[int(0.025 * RESAMPLES)]),
        float(medians[int(0.975 * RESAMPLES)]),
    )


def trusted_interval(seconds: Sequence[float]) -> Interval:
    """Return the 95 % interval of the median of at least one round: the bootstrap's, widened for
    FEW rounds to Student's around their geometric mean.

    The bootstrap draws nothing beyond the extremes of its values. The extremes enclose the median
    in 1 - 2 × 0.5**5 = 94 % of all cases for five values, in 75 % for three, in none for one.
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


def ratios(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Return the interval of the ratios per round, so that a change of pace affects both sides."""
    return interval([value / base for value, base in zip(values, baseline, strict=True)])


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the lower and upper quartile of at least one value, linear between neighbours."""
    low, high = np.quantile(np.asarray(values, dtype=np.float64), (0.25, 0.75))
    return float(low), float(high)


def spread(values: Sequence[float]) -> float:
    """Return interquartile range ÷ median of at least one value; 0 if all values are 0."""
    low, high = quartiles(values)
    median = float(np.median(values))
    return (high - low) / median if median > 0 else 0.0


def outliers(values: Sequence[float]) -> list[float]:
    """Return the values more than OUTLIER_RANGES interquartile ranges outside the quartiles; fewer
    than four values have no outliers.
    """
    if len(values) < 4:
        return []
    low, high = quartiles(values)
    reach = OUTLIER_RANGES * (high - low)
    return [value for value in values if value < low - reach or value > high + reach]
