"""Repeated readings of what the service holds, and whether it has stopped growing."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

import psutil

from tests.fixtures.server import Server
from tests.soak.deaths import run_hosts

SHORTEST_SECONDS: Final = 120.0
"""Growth is judged only in soaks of this length: pools and caches fill before that."""
WINDOWS: Final = 10
"""Windows of the later half. Each counts with its lowest reading, which excludes memory that work
uses for a while.
"""
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity that may grow in the later half by `least`, or by `share` of its median if that is
    more.
    """

    name: str
    of: Callable[[Reading], float]
    least: float
    share: float = 0.0
    unit: float = 1.0
    """The unit of the table."""


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
    """Values in the unit of the quantity. `middle` and `end` are medians of a window; `growth` is
    the slope times the later half.
    """

    name: str
    middle: float
    end: float
    growth: float
    bound: float

    @property
    def is_flat(self) -> bool:
        return self.growth <= self.bound


def judge(readings: Sequence[Reading], quantity: Quantity) -> Flatness:
    """Judge the growth of a quantity. Raises ValueError for fewer readings than windows."""
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
    """The step per window by Theil and Sen: the median over all pairs, insensitive to outliers."""
    pairs = combinations(enumerate(values), 2)
    return statistics.median((b - a) / (j - i) for (i, a), (j, b) in pairs)


INTERVAL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading at one moment. `host_pid` belongs to the run host that is never killed."""

    at_seconds: float
    api_bytes: float
    api_descriptors: float
    api_threads: float
    host_pid: int
    host_bytes: float
    host_descriptors: float
    host_threads: float
    processes: float
    """The API and everything below it."""
    all_bytes: float
    files: float
    """Files in the data folder and the folder for temporary files."""
    store_bytes: float


class Readings:
    """Read in a thread, twice a second."""

    def __init__(self, server: Server, folders: list[Path]) -> None:
        self.all: list[Reading] = []
        self._server = server
        self._folders = folders
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read_on)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _read_on(self) -> None:
        while not self._stop.wait(INTERVAL_SECONDS):
            # A process may end while it is looked at: then the next reading tells.
            with suppress(psutil.Error):
                self.all.append(self._read())

    def _read(self) -> Reading:
        self._server.look_below()
        api = psutil.Process(self._server.process.pid)
        host = next(iter(run_hosts(self._server)), None)
        if host is None:
            raise psutil.NoSuchProcess(0)
        below = api.children(recursive=True)
        paths = [path for folder in self._folders for path in folder.rglob("*") if path.is_file()]
        return Reading(
            at_seconds=time.monotonic() - self._begun,
            api_bytes=api.memory_info().rss,
            api_descriptors=api.num_fds(),
            api_threads=api.num_threads(),
            host_pid=host.pid,
            host_bytes=host.memory_info().rss,
            host_descriptors=host.num_fds(),
            host_threads=host.num_threads(),
            processes=1 + len(below),
            all_bytes=api.memory_info().rss + sum(map(_bytes, below)),
            files=len(paths),
            store_bytes=sum(map(_size, paths)),
        )


@contextmanager
def reading(server: Server, folders: list[Path]) -> Iterator[Readings]:
    """Read for as long as the block lasts."""
    readings = Readings(server, folders)
    readings.start()
    try:
        yield readings
    finally:
        readings.stop()


def _bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return 0
