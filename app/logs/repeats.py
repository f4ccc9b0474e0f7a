"""The same warning a thousand times says no more than once: the log gets one, and a count."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hotloop.app.logs.formatting import FIELDS

WINDOW_SECONDS: Final = 10.0
ALIKE: Final = "alike"
"""Of a record: what makes it the same as another, where the texts differ in what is of no
account (an id of the other side's): `extra={ALIKE: ...}`."""

_KEPT: Final = 256
"""Different warnings that are remembered at once; a further one is let through."""


@dataclass(slots=True)
class _Seen:
    record: logging.LogRecord
    since: float
    held_back: int = 0


class RepeatHandler(logging.Handler):
    """Hands records on. Of warnings and worse that are the same within WINDOW_SECONDS, the first;
    how many were like it is told with the next one, or with the next record of any kind.
    """

    def __init__(
        self, target: logging.Handler, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._target = target
        self._clock = clock
        self._seen: dict[tuple[object, ...], _Seen] = {}
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        for ready in self._ready(record):
            self._target.handle(ready)

    def flush(self) -> None:
        """Tell the counts that are still held back."""
        for record in self._expired(float("inf")):
            self._target.handle(record)
        self._target.flush()

    def close(self) -> None:
        self.flush()
        self._target.close()
        super().close()

    def _ready(self, record: logging.LogRecord) -> list[logging.LogRecord]:
        now = self._clock()
        ready = self._expired(now)
        if record.levelno < logging.WARNING:
            return [*ready, record]
        key = (record.name, record.levelno, record.msg, _likeness(record))
        with self._guard:
            seen = self._seen.get(key)
            if seen is not None:
                seen.held_back += 1
                return ready
            if len(self._seen) < _KEPT:
                self._seen[key] = _Seen(record, now)
        return [*ready, record]

    def _expired(self, now: float) -> list[logging.LogRecord]:
        with self._guard:
            if not self._seen:
                return []
            gone = {k: s for k, s in self._seen.items() if now - s.since >= WINDOW_SECONDS}
            for key in gone:
                del self._seen[key]
        return [_repeated(seen) for seen in gone.values() if seen.held_back]


def _likeness(record: logging.LogRecord) -> object:
    said = getattr(record, ALIKE, None)
    return record.getMessage() if said is None else said


def _repeated(seen: _Seen) -> logging.LogRecord:
    """The record that was let through, once more, with the number of those like it."""
    again = logging.makeLogRecord(seen.record.__dict__)
    again.created, again.exc_info = time.time(), None
    fields = getattr(seen.record, FIELDS, {})
    setattr(again, FIELDS, {**fields, "repeated": seen.held_back})
    return again
