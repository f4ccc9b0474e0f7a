"""A median, how far it can be trusted, and which of its values stand apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

RESAMPLES: Final = 2_000

_SEED: Final = 20_000

OUTLIER_RANGES: Final = 1.5
"""Interquartile ranges outside the quartiles from which on a value is an outlier (Tukey, 1977)."""


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
    """Of at least one value; the same values give the same interval.

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


def ratios(values: Sequence[float], baseline: Sequence[float]) -> Interval:
    """Of the ratios round by round, so that a change of pace counts on both sides."""
    return interval([value / base for value, base in zip(values, baseline, strict=True)])


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper one of at least one value, linear between neighbours."""
    low, high = np.quantile(np.asarray(values, dtype=np.float64), (0.25, 0.75))
    return float(low), float(high)


def spread(values: Sequence[float]) -> float:
    """Interquartile range ÷ median of at least one value; 0 where all are 0."""
    low, high = quartiles(values)
    median = float(np.median(values))
    return (high - low) / median if median > 0 else 0.0


def outliers(values: Sequence[float]) -> list[float]:
    """The values more than OUTLIER_RANGES interquartile ranges outside the quartiles; of fewer
    than four, none can be told to be one.
    """
    if len(values) < 4:
        return []
    low, high = quartiles(values)
    reach = OUTLIER_RANGES * (high - low)
    return [value for value in values if value < low - reach or value > high + reach]
