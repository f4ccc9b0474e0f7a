"""Memory and CPU seconds of this process and of all processes below it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

TREE_SECONDS: Final = 5.0
"""Age up to which `recent` reuses a list of processes: where the system has no lists of children, a
new one takes a walk through all processes."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The memory and CPU seconds that one or several processes use."""

    resident_bytes: int
    cpu_seconds: float


class ProcessTree:
    """This process and all processes below it. The methods block."""

    def __init__(self) -> None:
        self.own = psutil.Process()
        self._all = [self.own]
        self._looked = -TREE_SECONDS

    def look_around(self) -> list[psutil.Process]:
        """Return this process, then all processes below it, as they are now."""
        pids = _descendants(self.own.pid)
        if pids is None:
            self._all = [self.own, *self.own.children(recursive=True)]
        else:
            known = {process.pid: process for process in self._all}
            below = (known.get(pid) or _process(pid) for pid in pids)
            self._all = [self.own, *(process for process in below if process is not None)]
        self._looked = time.monotonic()
        return self._all

    def recent(self) -> list[psutil.Process]:
        """Return the same processes, as they were at most TREE_SECONDS ago."""
        stale = time.monotonic() - self._looked > TREE_SECONDS
        return self.look_around() if stale else self._all

    def usage(self) -> tuple[Usage, Usage]:
        """Return the usage of this process, and of all below it with children that have ended."""
        own, *below = self.look_around()
        own_seconds, ended_seconds = cpu_seconds(own)
        return Usage(resident_bytes(own), own_seconds), Usage(
            sum(map(resident_bytes, below)),
            ended_seconds + sum(sum(cpu_seconds(process)) for process in below),
        )


def resident_bytes(process: psutil.Process) -> int:
    """Return the resident memory, with shared pages; 0 for a process that has ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def proportional_bytes(process: psutil.Process) -> int:
    """Return the memory with shared pages divided among processes, or unshared pages only."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "pss", 0) or memory.uss)


def cpu_seconds(process: psutil.Process) -> tuple[float, float]:
    """Return the CPU seconds of a process, and of its ended children; (0, 0) if it has ended
    itself, because its parent then has its seconds.
    """
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0, 0.0
    ended = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return times.user + times.system, ended


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _descendants(pid: int) -> list[int] | None:
    """Return the processes below one, or None where the system has no lists of children."""
    if not Path("/proc/thread-self/children").exists():
        return None
    found: list[int] = []
    parents = [pid]
    while parents:
        with suppress(OSError):  # it may have ended meanwhile
            for task in list(Path(f"/proc/{parents.pop()}/task").iterdir()):
                with suppress(OSError):
                    children = [
                        int(child) for child in (task / "children").read_text("ascii").split()
                    ]
                    found += children
                    parents += children
    return found
