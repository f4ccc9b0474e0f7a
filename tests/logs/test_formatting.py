"""A record as a line, for machines and for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from hotloop.app.logs.formatting import (
    FIELDS,
    ConsoleFormatter,
    JsonFormatter,
    LineFormatter,
    SecretMask,
)
from hotloop.app.logs.origin import Origin, bound

MASK = SecretMask(["postgresql://me:planted%40secret@host/db", "Bearer planted-token", "key-1234"])
TRACE_PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
FORMATTERS = (ConsoleFormatter, JsonFormatter)


def record(message: str, *args: object, **fields: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "app.x", "levelno": 30, "levelname": "WARNING", "msg": message, "args": args}
    )
    setattr(made, FIELDS, fields)
    return made


def test_json_line_names_time_level_process_and_origin() -> None:
    made = record("run %s", "ended", items=3, status="failed")
    with bound(Origin("request-1", "task-1", TRACE_PARENT)):
        line = JsonFormatter("api", MASK).format(made)
    read = json.loads(line)
    assert datetime.fromisoformat(read.pop("time")).tzinfo == UTC
    assert read.pop("pid") > 0
    assert read == {
        "level": "warning",
        "logger": "app.x",
        "message": "run ended",
        "process": "api",
        "request_id": "request-1",
        "task_id": "task-1",
        "trace_id": "a" * 32,
        "items": 3,
        "status": "failed",
    }


def test_fields_cannot_replace_reserved_ones() -> None:
    read = json.loads(JsonFormatter("api", MASK).format(record("m", level="debug", pid=-1)))
    assert read["level"] == "warning"
    assert read["pid"] > 0


def test_console_line_is_plain_and_quotes_only_what_has_blanks() -> None:
    made = record("run ended", items=3, error="two words", seconds=0.123456789)
    with bound(Origin("request-1")):
        line = ConsoleFormatter("api", MASK).format(made)
    assert line == (
        'WARNING:  run ended  request_id=request-1 items=3 error="two words" seconds=0.123457'
    )


@pytest.mark.parametrize("kind", FORMATTERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("text", ["a\nINFO: forged", "a\r\x1b[2Jb", "\x00", "\x85"], ids=ascii)
def test_message_stays_on_one_line(kind: type[LineFormatter], text: str) -> None:
    line = kind("api", MASK).format(record(text, field=text))
    assert line.isprintable()


@pytest.mark.parametrize("kind", FORMATTERS, ids=lambda kind: kind.__name__)
def test_exception_is_logged_with_its_trace_and_without_secrets(kind: type[LineFormatter]) -> None:
    made = record("it failed")
    try:
        raise ValueError("no way to postgresql://me:planted%40secret@host/db")
    except ValueError:
        made.exc_info = sys.exc_info()
    line = kind("api", MASK).format(made)
    assert "Traceback" in line
    assert "ValueError: no way to postgresql://***@host/db" in line
    assert "planted" not in line


@pytest.mark.parametrize("kind", FORMATTERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(
    "text",
    [
        "redis://:planted-pass@h:1/0",
        "rediss://me:planted/pass@h",
        "postgresql://me:planted@pass@h/db",
        "connection with planted@secret refused",
        "connection with planted%40secret refused",
        "Authorization: Basic cGxhbnRlZA==",
        "planted-token",
        "host=h password=planted user=me",
        "key-1234 is wrong",
    ],
)
def test_secrets_are_masked_everywhere(kind: type[LineFormatter], text: str) -> None:
    line = kind("api", MASK).format(record("%s", text, field=text))
    assert "***" in line
    for secret in ("planted", "cGxhbnRlZA", "key-1234"):
        assert secret not in line


def test_text_without_secrets_is_unchanged() -> None:
    text = "GET /api/v1/tasks of http://127.0.0.1:8001 as user@host: basic rate limits"
    assert SecretMask(["abc", ""]).clean(text) == text
