"""A log record as a line: JSON for machines, plain words for people."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from hotloop.app.logs.origin import current
from hotloop.app.logs.secrets import SecretMask

FIELDS: Final = "fields"
"""Of a record: `extra={FIELDS: {...}}` adds names and values to its line."""

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_IN_A_TRACE: Final = {code: text for code, text in _CONTROLS.items() if code not in (9, 10)}
_LONGEST: Final = 16_384
"""Characters of a message or a trace."""


class LineFormatter(logging.Formatter):
    """What both forms share. `role` says which kind of process writes."""

    def __init__(self, role: str, mask: SecretMask) -> None:
        super().__init__()
        self._role = role
        self._mask = mask

    def _members(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is known of the work in hand, and what the caller adds."""
        origin = current()
        known = {
            "request_id": origin.request_id,
            "task_id": origin.task_id,
            "trace_id": origin.trace_id,
        }
        added: Mapping[str, Any] = getattr(record, FIELDS, {})
        members = {name: value for name, value in known.items() if value is not None}
        return members | {name: self._plain(value) for name, value in added.items()}

    def _plain(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | float):
            return value
        return self._text(str(value))

    def _text(self, text: str) -> str:
        return self._mask.clean(text)[:_LONGEST]

    def _trace(self, record: logging.LogRecord) -> str | None:
        if not record.exc_info:
            return None
        # The end says what happened.
        return self._mask.clean(self.formatException(record.exc_info))[-_LONGEST:]


class JsonFormatter(LineFormatter):
    """One object a line: time, level, logger, message, process, pid, and what else is known."""

    def format(self, record: logging.LogRecord) -> str:
        members: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._text(record.getMessage()),
            "process": self._role,
            "pid": os.getpid(),
        }
        members |= {n: v for n, v in self._members(record).items() if n not in members}
        trace = self._trace(record)
        if trace is not None:
            members["exception"] = trace
        return json.dumps(members)


class ConsoleFormatter(LineFormatter):
    """`LEVEL:    message  name=value`, and the trace of an exception below it."""

    def format(self, record: logging.LogRecord) -> str:
        message = self._text(record.getMessage()).translate(_CONTROLS)
        line = f"{record.levelname + ':':<9} {message}"
        members = self._members(record)
        if members:
            said = (f"{name}={_word(value)}" for name, value in members.items())
            line = f"{line}  {' '.join(said)}".translate(_CONTROLS)
        trace = self._trace(record)
        return line if trace is None else f"{line}\n{trace.translate(_IN_A_TRACE)}"


def _word(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if " " in text or not text else text
