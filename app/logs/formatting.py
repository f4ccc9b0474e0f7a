"""Formats of log records, JSON for machines and plain text for people, with secrets masked."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from hotloop.app.logs.origin import current

FIELDS: Final = "fields"
"""Attribute of a record: `extra={FIELDS: {...}}` adds names and values to its line."""

ALIKE: Final = "alike"
"""Attribute of a record: records with the same `extra={ALIKE: ...}` are repeats of each other, even
if their texts differ in details, such as an id."""

MASK: Final = "***"
SHORTEST_SECRET: Final = 4
"""A shorter secret is not masked: it is part of ordinary words, and protects nothing."""

_USER_INFO: Final = re.compile(r"(?<=://)[^\s'\"]*:[^\s'\"]*@")
"""User and password of a URL, unescaped characters included: it masks too much rather than too
little."""
_AUTHORIZATION: Final = re.compile(r"\b(Basic|Bearer)(\s+)[A-Za-z0-9._~+/=-]{8,}")
_PASSWORD: Final = re.compile(r"\b(password|passwd|pwd)(\s*=\s*)[^\s&'\"]+", re.IGNORECASE)
"""A password as in a connection string of libpq."""

_CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_IN_A_TRACE: Final = {code: text for code, text in _CONTROLS.items() if code not in (9, 10)}
_LONGEST: Final = 16_384
"""Most characters of a message or a trace."""


class SecretMask:
    """Masks passwords of URLs, authorizations of any kind, and the given secrets, whoever wrote the
    message: a library, an exception, a path.
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        known = {part for secret in secrets for part in _parts(secret)}
        long_enough = sorted(filter(_is_long, known), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, long_enough))) if long_enough else None

    def clean(self, text: str) -> str:
        """The text with all secrets masked."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        if "://" in text:
            text = _USER_INFO.sub(f"{MASK}@", text)
        if "Basic" in text or "Bearer" in text:
            text = _AUTHORIZATION.sub(rf"\1\2{MASK}", text)
        if "=" in text:
            text = _PASSWORD.sub(rf"\1\2{MASK}", text)
        return text


def _is_long(secret: str) -> bool:
    return len(secret) >= SHORTEST_SECRET


def _parts(secret: str) -> list[str]:
    """The parts of a secret to mask: the password of a URL, the second word of an authorization."""
    if "://" in secret:
        try:
            password = urlsplit(secret).password
        except ValueError:
            password = None
        return [] if password is None else [password, unquote(password), quote(password, safe="")]
    kind, _, rest = secret.partition(" ")
    return [rest] if kind.lower() in ("basic", "bearer") else [secret]


class LineFormatter(logging.Formatter):
    """The part that both formats share. `role` is the kind of process that writes."""

    def __init__(self, role: str, mask: SecretMask) -> None:
        super().__init__()
        self._role = role
        self._mask = mask

    def _members(self, record: logging.LogRecord) -> dict[str, Any]:
        """The ids of the work in hand, and the fields that the caller adds."""
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
        # Keep the end, which has the error itself.
        return self._mask.clean(self.formatException(record.exc_info))[-_LONGEST:]


class JsonFormatter(LineFormatter):
    """Writes an object per line: time, level, logger, message, process, pid, and further fields."""

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
