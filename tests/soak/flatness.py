"""Whether what the service holds has stopped growing: the slope over the later half."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from tests.soak.readings import Reading

SHORTEST_SECONDS: Final = 120.0
"""Of a soak whose slopes are judged: before that, the pools and caches still fill."""
WINDOWS: Final = 10
"""Of the later half. Each counts by its lowest reading: what work holds while it is done comes
and goes, and what is kept for ever stays in the lowest, too."""
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Quantity:
    """May grow by `least`, or by `share` of its median, whichever is more, in the later half."""

    name: str
    of: Callable[[Reading], float]
    least: float
    share: float = 0.0
    unit: float = 1.0
    """What one of the table is."""


# Pools of threads and processes come with runs and go with comparisons, which start with none.
QUANTITIES: Final = (
    Quantity("memory of the API, MiB", lambda r: r.api_bytes, _MIB, 0.05, _MIB),
    Quantity("memory of a run host, MiB", lambda r: r.host_bytes, _MIB, 0.05, _MIB),
    Quantity("descriptors of the API", lambda r: r.api_descriptors, 3),
    Quantity("descriptors of a run host", lambda r: r.host_descriptors, 2),
    Quantity("threads of the API", lambda r: r.api_threads, 4),
    Quantity("threads of a run host", lambda r: r.host_threads, 8),
    Quantity("processes", lambda r: r.processes, 6),
    Quantity("files", lambda r: r.files, 1),
)


@dataclass(frozen=True, slots=True)
class Flatness:
    """All in the quantity's unit; `middle` and `end` are medians of a window, `growth` is by the
    slope, over the whole later half."""

    name: str
    middle: float
    end: float
    growth: float
    bound: float

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.bound


def judge(readings: Sequence[Reading], quantity: Quantity) -> Flatness:
    """Raises ValueError for fewer readings than windows."""
    half = readings[-1].at_seconds / 2 if readings else 0.0
    later = [reading for reading in readings if reading.at_seconds >= half]
    if len(later) < 2 * WINDOWS:
        raise ValueError(f"{len(later)} readings are too few for {WINDOWS} windows")
    size = len(later) / WINDOWS
    windows = [later[round(i * size) : round((i + 1) * size)] for i in range(WINDOWS)]
    lowest = [min(map(quantity.of, window)) for window in windows]
    middle, end = (statistics.median(map(quantity.of, windows[i])) for i in (0, -1))
    bound = max(quantity.least, quantity.share * statistics.median(map(quantity.of, later)))
    unit = quantity.unit
    growth = slope(lowest) * (WINDOWS - 1)
    return Flatness(quantity.name, middle / unit, end / unit, growth / unit, bound / unit)


def slope(values: Sequence[float]) -> float:
    """A step, by Theil and Sen: the median over all pairs, which single outliers do not move."""
    pairs = combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs)
