"""Setting up the log of a process."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Final

from hotloop.app.logs.formatting import ConsoleFormatter, JsonFormatter
from hotloop.app.logs.repeats import RepeatHandler
from hotloop.app.logs.secrets import SecretMask


class LogFormat(StrEnum):
    """What a line of the log looks like."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """What is written, from the most to the least."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How a process writes; the processes that it starts write in the same way."""

    format: LogFormat = LogFormat.CONSOLE
    level: LogLevel = LogLevel.INFO


OWN_LOGGERS: Final = ("app", "asyncio", "uvicorn")
"""Those that may write at level `debug`. Of others this would be too much, or the items that they
are told to store."""

_QUIET: Final = ("aiohttp", "httpx", "numba", "opentelemetry", "sqlalchemy", "urllib3")
"""Libraries that are heard from `warning` on."""


class _StderrHandler(logging.Handler):
    """Writes to what stderr is at the moment: a progress bar takes its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # In one piece: other processes write to the same.
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


_options: LogOptions | None = None
logger = logging.getLogger("app")


def set_up_logging(options: LogOptions, role: str, secrets: Sequence[str] = ()) -> None:
    """Everything that any logger of this process writes goes to stderr as lines of one form; so do
    exceptions that nobody handles. `role` names the kind of process: `api`, `node`, `run_host`,
    `worker`, `command`. `secrets` (keys, URLs with a password) are masked wherever they turn up.
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
    """What this process was set up with; None when it was not."""
    return _options


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logger.critical("the process ends by a fault", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is None or issubclass(arguments.exc_type, SystemExit):
        return
    name = arguments.thread.name if arguments.thread is not None else "?"
    trace = (arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
    logger.critical("thread %s ends by a fault", name, exc_info=trace)
