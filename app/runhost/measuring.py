"""CPU seconds and peak memory of a run: of this process and everything below it."""

from __future__ import annotations

import threading
from typing import Final

import psutil

SAMPLE_SECONDS: Final = 0.5
"""Between two looks at the memory."""

GROWTH: Final = 1.01
"""The proportional set size is read only when the resident size, which is cheap to read but counts
shared pages in every process, has grown by this factor: reading it walks all mappings of a
process, 1.6 ms each, which at every look of a run with four workers was 2.5 % of a core."""


class RunMeter:
    """Started when the run's clock starts, stopped when it stops."""

    def __init__(self) -> None:
        self._me = psutil.Process()
        self._cpu_before = 0.0
        self._peak_bytes = 0
        self._resident_bytes = 0.0
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="run-meter", daemon=True)

    def start(self) -> None:
        self._cpu_before = self._cpu_seconds()
        self._sampler.start()

    def stop(self) -> tuple[float, int]:
        """CPU seconds since start, and the largest memory seen in bytes."""
        self._stopping.set()
        self._sampler.join()
        return max(0.0, self._cpu_seconds() - self._cpu_before), self._peak_bytes

    def _cpu_seconds(self) -> float:
        # A child that ended meanwhile is in the children_* fields of its parent, with all it
        # ever used, so the difference of two calls stays right.
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return total

    def _tree(self) -> list[psutil.Process]:
        return [self._me, *self._me.children(recursive=True)]

    def _sample(self) -> None:
        while True:
            last = self._stopping.wait(SAMPLE_SECONDS if self._resident_bytes else 0)
            tree = self._tree()
            resident_bytes = sum(map(_resident_bytes, tree))
            if resident_bytes > GROWTH * self._resident_bytes:
                self._resident_bytes = resident_bytes
                self._peak_bytes = max(self._peak_bytes, sum(map(_proportional_bytes, tree)))
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
