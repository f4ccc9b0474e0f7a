"""Ctrl-C and SIGTERM as an exception, so that whatever was begun is put in order on the way out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal says stop. Like KeyboardInterrupt no `Exception`: nobody takes it for a fault."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """Raises Stopped where a signal finds the program, or at the end of `held`."""

    def __init__(self) -> None:
        self._holds = 0
        self._waiting: int | None = None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self._holds and self._waiting is None:
            self._waiting = number
        else:
            self._waiting = None
            raise Stopped(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What is in the block happens to its end; only a second signal breaks in."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """As the beginning of `held`."""
        self._holds += 1

    def release(self) -> None:
        """As the end of `held`."""
        self._holds -= 1
        if self._holds == 0 and self._waiting is not None:
            number, self._waiting = self._waiting, None
            raise Stopped(number)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Take the signals for as long as the block lasts; to be used in the main thread."""
    signals = StopSignals()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup
            signal.signal(number, signals.receive)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
