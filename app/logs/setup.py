"""Set-up of the log of a process: levels, one form for all lines, and repeats counted."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final

from hotloop.app.logs.formatting import (
    ALIKE,
    FIELDS,
    ConsoleFormatter,
    JsonFormatter,
    SecretMask,
)


class LogFormat(StrEnum):
    """Forms of a log line."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """Levels of the log, from the most lines to the fewest."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Form and level of a process's log; the processes that it starts get the same."""

    format: LogFormat = LogFormat.CONSOLE
    level: LogLevel = LogLevel.INFO


OWN_LOGGERS: Final = ("hotloop", "asyncio", "uvicorn")
"""Loggers that may write at level `debug`. Others would write too much, or the items that they
store."""

_QUIET: Final = ("aiohttp", "httpx", "numba", "opentelemetry", "sqlalchemy", "urllib3")
"""Libraries that are logged from level `warning` on."""


WINDOW_SECONDS: Final = 10.0
_KEPT: Final = 256
"""Different warnings that are remembered at the same time; further ones are written."""


class _StderrHandler(logging.Handler):
    """Writes to the current `sys.stderr`, which a progress bar replaces for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # In one call, because other processes write to the same stream.
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


@dataclass(slots=True)
class _Seen:
    record: logging.LogRecord
    since: float
    held_back: int = 0


class RepeatHandler(logging.Handler):
    """Hands records on, but of equal warnings and errors within WINDOW_SECONDS only the first. The
    number of repeats is written before the next record after that time.
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
        """Write the counts of repeats that are still held back."""
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
    """The first record once more, with the number of its repeats."""
    again = logging.makeLogRecord(seen.record.__dict__)
    again.created, again.exc_info = time.time(), None
    fields = getattr(seen.record, FIELDS, {})
    setattr(again, FIELDS, {**fields, "repeated": seen.held_back})
    return again


_options: LogOptions | None = None
logger = logging.getLogger(__name__)


def set_up_logging(options: LogOptions, role: str, secrets: Sequence[str] = ()) -> None:
    """Write the records of all loggers of this process, and unhandled exceptions, to stderr as
    lines of one form. `role` is the kind of process: `api`, `node`, `run_host`, `worker`,
    `command`. `secrets` (keys, URLs with a password) are masked in all lines.
    """
    global _options
    _options = options
    mask = SecretMask(secrets)
    kinds = {LogFormat.JSON: JsonFormatter, LogFormat.CONSOLE: ConsoleFormatter}
    target = _StderrHandler()
    target.setFormatter(kinds[options.format](role, mask))
    handler = RepeatHandler(target)
    root, level = logging.getLogger(), getattr(logging, options.level.upper())
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.INFO))
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    atexit.register(handler.flush)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def log_options() -> LogOptions | None:
    """The options that the log of this process was set up with; None if it was not set up."""
    return _options


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.critical("unhandled exception; the process ends", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or issubclass(arguments.exc_type, SystemExit):
        return
    name = arguments.thread.name if arguments.thread is not None else "?"
    trace = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
    logger.critical("unhandled exception; thread %s ends", name, exc_info=trace)
