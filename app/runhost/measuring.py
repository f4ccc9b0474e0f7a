"""CPU seconds and peak memory of a run: of this process and everything below it."""

from __future__ import annotations

import threading
import time
from typing import Final

import psutil

SAMPLE_SECONDS: Final = 0.5
"""Between two looks at the memory."""

TOLERANCE: Final = 0.01
"""How far the resident size may move before the proportional set size is read again.

The resident size is cheap to read and counts shared pages in every process; the proportional one
counts them once, and walks all mappings of a process to do so, 1.6 ms each: at every look of a run
with four workers that was 2.5 % of a core, and once in a run of half a second still 1 %.
"""


TREE_SECONDS: Final = 5.0
"""How long a list of the processes below is good for: it takes a walk through all of the system's.
A run makes a new one when it starts and when it ends."""


class MemoryGauge:
    """Proportional set size of this process and its children; lives as long as the run host."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._tree = [self._me]
        self._looked = -TREE_SECONDS
        self._resident_bytes = 0
        self._proportional_bytes = 0

    def look_around(self) -> list[psutil.Process]:
        """This process and all below it, as they are now."""
        self._tree = [self._me, *self._me.children(recursive=True)]
        self._looked = time.monotonic()
        return self._tree

    def read(self) -> int:
        """Bytes now, to within TOLERANCE."""
        stale = time.monotonic() - self._looked > TREE_SECONDS
        tree = self.look_around() if stale else self._tree
        resident_bytes = sum(map(_resident_bytes, tree))
        moved = abs(resident_bytes - self._resident_bytes)
        if moved > TOLERANCE * self._resident_bytes:
            self._resident_bytes = resident_bytes
            self._proportional_bytes = sum(map(_proportional_bytes, tree))
        return self._proportional_bytes


class RunMeter:
    """Started when the run's clock starts, stopped when it stops."""

    def __init__(self, gauge: MemoryGauge) -> None:
        self._gauge = gauge
        self._cpu_before = 0.0
        self._peak_bytes = 0
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="run-meter", daemon=True)

    def start(self) -> None:
        self._cpu_before = self._cpu_seconds()
        self._sampler.start()

    def stop(self) -> tuple[float, int]:
        """CPU seconds since start, and the largest memory seen in bytes."""
        cpu_seconds = max(0.0, self._cpu_seconds() - self._cpu_before)
        self._stopping.set()
        self._sampler.join()
        return cpu_seconds, self._peak_bytes

    def _cpu_seconds(self) -> float:
        # A child that ended meanwhile is in the children_* fields of its parent, with all it
        # ever used, so the difference of two calls stays right.
        total = 0.0
        for process in self._gauge.look_around():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return total

    def _sample(self) -> None:
        """Look while the run lasts, and once when it has ended."""
        while True:
            last = self._stopping.wait(SAMPLE_SECONDS)
            self._peak_bytes = max(self._peak_bytes, self._gauge.read())
            if last:
                return


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _proportional_bytes(process: psutil.Process) -> int:
    """Shared pages counted once; where the system does not tell, unshared pages only."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "pss", 0) or memory.uss)
