"""Which process a task belongs to, and whether that process still lives.

A pid alone would not do: pids come again, in a restarted container at once. The start of a process
is told in clock ticks since the machine booted, for seconds since 1970 are computed from the
system's clock, and all processes would seem to be others when that is set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import psutil

_SAME_START_SECONDS: Final = 1.0
"""Start times this close are the same, where they are unix seconds."""

_STATE_FIELD, _TICK_FIELD = 0, 19
"""The places of fields 3 and 22 of /proc/PID/stat, of those that follow the name."""


def current_owner() -> str:
    """This process: `<pid>:<start>`, the start in clock ticks since the boot of the machine; in
    unix seconds where the system does not tell ticks.
    """
    pid = os.getpid()
    if counts_ticks():
        return f"{pid}:{_stat(pid)[_TICK_FIELD]}"
    return f"{pid}:{psutil.Process(pid).create_time():.3f}"


def counts_ticks() -> bool:
    """Whether starts are told in clock ticks: only texts of `current_owner` that were made the same
    way can be compared.
    """
    return Path("/proc/self/stat").exists()


def owner_is_alive(owner: str) -> bool:
    """Whether the process that `current_owner` named, in this boot of this machine, still runs.

    False for a text that names none. A process that may not be looked at counts as alive.
    """
    pid, _, started = owner.partition(":")
    try:
        number = int(pid)
        if number <= 0:
            return False
        return _runs(number, started) if counts_ticks() else _has_run_since(number, started)
    except (PermissionError, psutil.AccessDenied):
        return True
    except (OSError, psutil.Error, ValueError, OverflowError):
        return False


def _runs(pid: int, tick: str) -> bool:
    try:
        fields = _stat(pid)
    except FileNotFoundError:
        os.kill(pid, 0)  # PermissionError: of another user, and hidden
        return False
    return fields[_STATE_FIELD] not in ("Z", "X") and fields[_TICK_FIELD] == tick


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return text.rpartition(")")[2].split()


def _has_run_since(pid: int, started: str) -> bool:
    """Systems without /proc keep the time of a process's start as it was then."""
    process = psutil.Process(pid)
    if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return False
    begun: float = process.create_time()
    return abs(begun - float(started)) < _SAME_START_SECONDS
