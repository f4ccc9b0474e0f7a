"""CPU seconds and peak memory of a run: of this process and everything below it."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import psutil

from hotloop.app.process_tree import ProcessTree, cpu_seconds, proportional_bytes, resident_bytes
from hotloop.app.system import trim_memory

SAMPLE_SECONDS: Final = 0.5
"""Between two looks at the memory."""

TOLERANCE: Final = 0.01
"""How far the resident size may move before the proportional set size is read again.

The resident size is cheap to read and counts shared pages in every process; the proportional one
counts them once, and walks all mappings of a process to do so, 1.6 ms each: at every look of a run
with four workers that was 2.5 % of a core, and once in a run of half a second still 1 %.
"""

LEFT_OVER_BYTES: Final = 16 << 20
"""Free memory that a process may have kept when a run begins."""


class MemoryGauge(ProcessTree):
    """Proportional set size of this process and its children; lives as long as the run host."""

    def __init__(self) -> None:
        super().__init__()
        self._resident_bytes = 0
        self._proportional_bytes = 0
        self.trimmed_bytes = self.resident_bytes()
        """Resident memory of this process when it last returned all that was free."""

    def resident_bytes(self) -> int:
        """Resident memory of this process alone."""
        return resident_bytes(self.own)

    def read(self) -> int:
        """Bytes now, to within TOLERANCE."""
        tree = self.recent()
        resident = sum(map(resident_bytes, tree))
        if abs(resident - self._resident_bytes) > TOLERANCE * self._resident_bytes:
            self._resident_bytes = resident
            self._proportional_bytes = sum(map(proportional_bytes, tree))
        return self._proportional_bytes


class NoGauge(MemoryGauge):
    """Measures nothing, which takes no time: for runs of which only the duration is asked."""

    def look_around(self) -> list[psutil.Process]:
        return []

    def recent(self) -> list[psutil.Process]:
        return []

    def resident_bytes(self) -> int:
        return 0


class RunMemory:
    """Memory of one run, made when it begins: what its worker processes hold, and what this process
    holds beyond what it held then. What it held before, and pools of other strategies, are not the
    run's.
    """

    def __init__(self, gauge: MemoryGauge, workers: Callable[[], Sequence[int]]) -> None:
        """`workers` tells the processes that the run uses of those that there are."""
        self._gauge = gauge
        self._workers = workers
        self._trim()
        self._before = gauge.resident_bytes()
        self.counts_peak = _reset_peak()
        mine = set(workers())
        self._others = {p.pid for p in gauge.look_around() if p.pid not in mine}
        self._sizes: dict[int, tuple[int, int]] = {}
        """Resident and proportional size of each process when the second was read last."""
        self._worker_bytes = 0
        self._growth_bytes = 0

    def _trim(self) -> None:
        """Return what earlier runs have freed, so that this one is not taken to need less."""
        gauge = self._gauge
        if gauge.resident_bytes() > gauge.trimmed_bytes + LEFT_OVER_BYTES:
            gc.collect()
            trim_memory()
            gauge.trimmed_bytes = gauge.resident_bytes()

    def look(self) -> int:
        """The most bytes seen so far."""
        mine = set(self._workers())
        total = 0
        for process in self._gauge.recent():
            if process.pid in mine or process.pid not in self._others:
                total += self._size(process)
        self._worker_bytes = max(self._worker_bytes, total)
        peak = _peak_bytes() if self.counts_peak else self._gauge.resident_bytes()
        self._growth_bytes = max(self._growth_bytes, peak - self._before)
        return self._worker_bytes + self._growth_bytes

    def _size(self, process: psutil.Process) -> int:
        resident = resident_bytes(process)
        before, proportional = self._sizes.get(process.pid, (0, 0))
        if abs(resident - before) > TOLERANCE * before:
            proportional = proportional_bytes(process)
            self._sizes[process.pid] = resident, proportional
        return proportional


class RunMeter:
    """Made before the run's set-up, started when its clock starts, stopped when that stops."""

    def __init__(self, gauge: MemoryGauge, workers: Callable[[], Sequence[int]]) -> None:
        self._gauge = gauge
        self._memory = RunMemory(gauge, workers)
        self._cpu_before = 0.0
        self._stopping = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="run-meter", daemon=True)

    def start(self) -> None:
        self._cpu_before = self._cpu_seconds()
        self._sampler.start()

    def stop(self) -> tuple[float, int]:
        """CPU seconds since start, and the most bytes of memory that were the run's own."""
        used = max(0.0, self._cpu_seconds() - self._cpu_before)
        self._stopping.set()
        self._sampler.join()
        return used, self._memory.look()

    def _cpu_seconds(self) -> float:
        # A child that ended meanwhile is in the ended children of its parent, with all it ever
        # used, so the difference of two calls stays right.
        return sum(sum(cpu_seconds(process)) for process in self._gauge.look_around())

    def _sample(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            self._memory.look()


def _reset_peak() -> bool:
    """Let the system look for the most memory of this process from now on; whether it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _peak_bytes() > 0
    except OSError:
        return False


def _peak_bytes() -> int:
    """The most resident memory of this process since the last reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
