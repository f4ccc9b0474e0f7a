"""The state of a process that runs kernels: how long it may, what it does, and what it found."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from hotloop.app.check.messages import Note, Reporter
from hotloop.app.check.names import BY_NAME, Status

__all__ = ["Session", "TooSlow", "alarm"]

_LEAST_LIMIT: Final = 4.0
"""Seconds that a call of a kernel may always take, on a machine that is busy with other things."""

_SLOWER: Final = 30.0
"""How much slower than expected a call may be before it counts as one that never returns."""


_WAITING: Final = 20
"""How much longer than its processor time a call may take, before it counts as one that waits."""

_LEAST_WAIT: Final = 1e-2


class TooSlow(BaseException):
    """The time for a call of Python code is over. No `Exception`, so that no handler takes it."""


class Session:
    """Sends findings, and remembers them. `seconds` is the time for everything in this process."""

    def __init__(self, reporter: Reporter, note: Note, seconds: float) -> None:
        self._reporter = reporter
        self._note = note
        self.seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._failed: dict[tuple[str, str], int] = defaultdict(int)

    def left(self) -> float:
        """Return the seconds that are left, which may be negative."""
        return self._deadline - time.monotonic()

    def share(self, fraction: float) -> float:
        """Return a fraction of the whole time, or what is left if that is less; at least 0."""
        return max(0.0, min(self.seconds * fraction, self.left()))

    @contextmanager
    def doing(self, words: str, expected: float = 0.0) -> Iterator[None]:
        """Say what the block does, in case that it never ends. It is expected to take as long."""
        with self._note.doing(words, max(_LEAST_LIMIT, _SLOWER * expected)):
            yield

    def send(self, kind: str, **values: Any) -> None:
        """Send a message that is no finding."""
        self._reporter.send(kind, **values)

    def found(
        self, kernel: str, point: str, seen: str, example: Mapping[str, Any] | None = None
    ) -> None:
        """Report a fault. Only the first one of a kernel at a point is sent."""
        self._failed[kernel, point] += 1
        if self._failed[kernel, point] == 1:
            self._reporter.send(
                "finding",
                kernel=kernel,
                point=point,
                seen=seen,
                advice=BY_NAME[point].advice,
                example=example,
            )

    def has_failed(self, kernel: str, *points: str) -> bool:
        """Return True if a fault of the kernel was found at one of these points."""
        return any(self._failed[kernel, point] for point in points)

    def ended(self, kernel: str, point: str, words: str) -> None:
        """Report that a point was examined to its end; `words` say with what."""
        status = Status.FAILED if self._failed[kernel, point] else Status.PASSED
        self.checked(kernel, point, status, words)

    def checked(self, kernel: str, point: str, status: Status, words: str) -> None:
        """Report how a point ended."""
        self._reporter.send("checked", kernel=kernel, point=point, status=status, words=words)


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raise TooSlow in the block when it has used so much processor time, so that a busy machine
    makes nothing slow; or when it has waited for far longer. Only the main thread can use it, and
    code that is not Python's is not interrupted.
    """
    is_inside = True
    started, cpu_started = time.monotonic(), time.process_time()

    def look(number: int, frame: FrameType | None) -> None:
        used, elapsed = time.process_time() - cpu_started, time.monotonic() - started
        if is_inside and (used > seconds or elapsed > _WAITING * max(seconds, _LEAST_WAIT)):
            raise TooSlow

    before = signal.signal(signal.SIGALRM, look)
    # It rings again and again. A timer of processor time would make that time inexact: the system
    # counts it in its own ticks while there is one.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), max(seconds / 4, 5e-3))
    try:
        yield
    finally:
        is_inside = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
