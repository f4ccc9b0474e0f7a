"""Reports of this process's circuit breakers, in a module of their own, so that workers without
breakers need not load the breakers' libraries.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

_PROCESS: Final = os.urandom(8).hex()
_numbers: Final = count(1)


@dataclass(frozen=True, slots=True)
class BreakerReport:
    """A breaker after its last change."""

    source: str
    state: str
    """`closed`, `open` or `half_open`."""
    openings: int
    """Number of times that the breaker has opened in its process."""
    reason: str | None
    """The last failure, in words fit for a client."""
    process: str = _PROCESS
    """The process that sends the report. Its reports have a `number` each, because a report may
    come late, or again."""
    number: int = field(default_factory=_numbers.__next__)


Listener = Callable[[BreakerReport], None]

_lock = threading.Lock()
_reports: dict[str, BreakerReport] = {}
_listeners: list[Listener] = []


def record(report: BreakerReport) -> None:
    """Keep the report, and call all listeners. Thread-safe."""
    with _lock:
        _reports[report.source] = report
        listeners = tuple(_listeners)
    for listener in listeners:
        listener(report)


def breaker_reports() -> tuple[BreakerReport, ...]:
    """Return the last report of each breaker of this process that has ever changed its state."""
    with _lock:
        return tuple(_reports.values())


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Call `listener` with every report of this process, in the thread that makes it."""
    with _lock:
        _listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)
