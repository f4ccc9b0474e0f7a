"""Which process a task belongs to, and whether that process still lives.

A pid alone would not do: pids come again, in a restarted container at once.
"""

from __future__ import annotations

from typing import Final

import psutil

_SAME_START_SECONDS: Final = 1.0
"""Start times this close are the same: they are computed from the system's clock."""


def current_owner() -> str:
    """This process: `<pid>:<unix seconds of its start>`."""
    process = psutil.Process()
    return f"{process.pid}:{process.create_time():.3f}"


def owner_is_alive(owner: str) -> bool:
    """Whether the process that `current_owner` named still runs on this machine.

    False for a text that names none. A process that may not be looked at counts as alive.
    """
    pid, _, started = owner.partition(":")
    try:
        process = psutil.Process(int(pid))
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        begun: float = process.create_time()
        return abs(begun - float(started)) < _SAME_START_SECONDS
    except psutil.AccessDenied:
        return True
    except (psutil.Error, ValueError, OverflowError):
        return False
