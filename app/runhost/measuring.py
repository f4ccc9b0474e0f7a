"""CPU seconds and peak memory of a run, over this process and all its child processes."""

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
"""Seconds between two samples of the memory."""

TOLERANCE: Final = 0.01
"""Share by which the resident size may change before the proportional set size is read again.

The resident size is cheap to read and counts shared pages in every process. The proportional size
counts them once, but walks all mappings of a process, 1.6 ms each: at every sample of a run with
four workers that was 2.5 % of a core, and once in a run of half a second still 1 %.
"""

LEFT_OVER_BYTES: Final = 16 << 20
"""Free memory that a process may have kept when a run begins."""


class MemoryGauge(ProcessTree):
    """Gauge of the memory of this process and its children, as proportional set size."""

    def __init__(self) -> None:
        super().__init__()
        self._resident_bytes = 0
        self._proportional_bytes = 0
        self.trimmed_bytes = self.resident_bytes()
        """Resident memory of this process when it last returned its free memory."""

    def resident_bytes(self) -> int:
        """Return the resident memory of this process alone."""
        return resident_bytes(self.own)

    def read(self) -> int:
        """Return the present bytes, to within TOLERANCE."""
        tree = self.recent()
        resident = sum(map(resident_bytes, tree))
        if abs(resident - self._resident_bytes) > TOLERANCE * self._resident_bytes:
            self._resident_bytes = resident
            self._proportional_bytes = sum(map(proportional_bytes, tree))
        return self._proportional_bytes


class NoGauge(MemoryGauge):
    """A gauge that measures nothing and takes no time, for runs where only the duration counts."""

    def look_around(self) -> list[psutil.Process]:
        return []

    def recent(self) -> list[psutil.Process]:
        return []

    def resident_bytes(self) -> int:
        return 0


class RunMemory:
    """Memory of a run, made when it begins: the memory of its worker processes, and the growth of
    this process since then. Pools of other strategies do not count.
    """

    def __init__(self, gauge: MemoryGauge, workers: Callable[[], Sequence[int]]) -> None:
        """`workers` returns the ids of the worker processes that the run uses."""
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
        """Return memory that earlier runs have freed, so that this run's growth is measured."""
        gauge = self._gauge
        if gauge.resident_bytes() > gauge.trimmed_bytes + LEFT_OVER_BYTES:
            gc.collect()
            trim_memory()
            gauge.trimmed_bytes = gauge.resident_bytes()

    def look(self) -> int:
        """Take a sample, and return the most bytes seen so far."""
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
    """CPU and memory meter of a run: made before the set-up, started and stopped with its clock."""

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
        """Return the CPU seconds since `start`, and the run's peak bytes of memory."""
        used = max(0.0, self._cpu_seconds() - self._cpu_before)
        self._stopping.set()
        self._sampler.join()
        return used, self._memory.look()

    def _cpu_seconds(self) -> float:
        # A child that ended meanwhile counts in its parent's ended children, with all it ever used,
        # so the difference of two calls stays right.
        return sum(sum(cpu_seconds(process)) for process in self._gauge.look_around())

    def _sample(self) -> None:
        while not self._stopping.wait(SAMPLE_SECONDS):
            self._memory.look()


def _reset_peak() -> bool:
    """Reset the system's record of this process's peak memory. Return True if it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _peak_bytes() > 0
    except OSError:
        return False


def _peak_bytes() -> int:
    """Return the peak resident memory of this process since the last reset."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) << 10 if found else 0
