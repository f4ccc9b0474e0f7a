"""Levels of loggers, and repeated warnings, which are counted instead of written."""

from __future__ import annotations

import logging
import subprocess
import sys

from hotloop.app.logs.formatting import ALIKE, FIELDS
from hotloop.app.logs.setup import _KEPT, WINDOW_SECONDS, RepeatHandler


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        repeated = getattr(record, FIELDS, {}).get("repeated")
        self.lines.append((record.getMessage(), repeated))


class Log:
    """A handler whose clock stands until the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.kept = Kept()
        self.handler = RepeatHandler(self.kept, lambda: self.now)

    def say(self, text: str, level: int = logging.WARNING, alike: object = None) -> None:
        record = logging.makeLogRecord({"name": "app", "levelno": level, "msg": text})
        if alike is not None:
            setattr(record, ALIKE, alike)
        self.handler.handle(record)


def test_same_warning_is_written_once_in_a_window_with_a_count_after_it() -> None:
    log = Log()
    for _ in range(1_000):
        log.say("it is down")
    assert log.kept.lines == [("it is down", None)]
    log.now = WINDOW_SECONDS
    log.say("it is down")
    assert log.kept.lines[1:] == [("it is down", 999), ("it is down", None)]


def test_count_comes_with_the_next_record_of_any_kind_or_when_the_log_is_flushed() -> None:
    log = Log()
    for _ in range(3):
        log.say("it is down")
    log.now = WINDOW_SECONDS
    log.say("something else", logging.INFO)
    assert log.kept.lines[1:] == [("it is down", 2), ("something else", None)]
    log.say("b")
    log.say("b")
    log.handler.flush()
    assert log.kept.lines[3:] == [("b", None), ("b", 1)]


def test_different_warnings_and_all_news_are_written() -> None:
    log = Log()
    for text in ("a", "b", "a"):
        log.say(text)
        log.say(text, logging.ERROR)
        log.say(text, logging.INFO)
    assert len(log.kept.lines) == 7  # all but the second warning and error of `a`


def test_caller_can_group_warnings_with_different_texts() -> None:
    log = Log()
    for number in range(5):
        log.say(f"request {number} failed")
        log.say("x", alike=number % 2)
    assert [text for text, _ in log.kept.lines].count("x") == 2
    assert sum(text.startswith("request") for text, _ in log.kept.lines) == 5


def test_memory_is_bounded() -> None:
    log = Log()
    for number in range(3 * _KEPT):
        log.say(f"warning {number}")
    assert len(log.kept.lines) == 3 * _KEPT
    assert len(log.handler._seen) == _KEPT


def test_level_debug_is_for_loggers_of_the_service_only() -> None:
    program = (
        "import logging\n"
        "from hotloop.app.logs.setup import LogLevel, LogOptions, set_up_logging\n"
        "set_up_logging(LogOptions(level=LogLevel.DEBUG), 'api')\n"
        "for name in ('hotloop.app.tasks.store', 'asyncio', 'redis', 'httpx'):\n"
        "    logging.getLogger(name).debug('of %s', name)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert [line.split()[-1] for line in done.stderr.splitlines()] == [
        "hotloop.app.tasks.store",
        "asyncio",
    ]
