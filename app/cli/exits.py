"""The end of a command: exit status, errors in words, Ctrl-C and SIGTERM as an exception.

0   done
1   the task failed or was cancelled; outputs that had to be equal differ
2   the command, a setting, a file or the request was refused
3   the service cannot be reached, or cannot answer now
128 + the signal's number: Ctrl-C (130) or SIGTERM (143); the command cancels its task
"""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, TextIO

import typer

from hotloop.app.wording import plain

FAILED: Final = 1
REFUSED: Final = 2
UNREACHABLE: Final = 3
BROKEN_PIPE: Final = 141
"""The status of a program that SIGPIPE ended: the reader of the output has left."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_TOO_MANY_REQUESTS: Final = 429
_LONGEST: Final = 2_000
"""Characters of a line that are shown."""


class CommandError(Exception):
    """The command cannot do its work; `str(error)` says why."""

    def __init__(self, text: str, code: int = REFUSED) -> None:
        super().__init__(text)
        self.text = text
        self.code = code

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        """The error as a problem of RFC 9457."""
        kind = "unreachable" if self.code == UNREACHABLE else "refused"
        return {"type": f"urn:hotloop:problem:command-{kind}", "title": kind, "detail": self.text}


class ProblemError(CommandError):
    """The service's answer is a problem (RFC 9457)."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        lines = [f"{problem.get('title', 'The service answered')}: {problem.get('detail', status)}"]
        faults = [fault for fault in problem.get("errors") or () if isinstance(fault, dict)]
        if len(faults) > 1:  # a single fault is already the detail
            lines += [f"  {fault.get('field')}: {fault.get('message')}" for fault in faults]
        # Too many requests may be accepted later; the other statuses are final.
        refused = 400 <= status < 500 and status != _TOO_MANY_REQUESTS
        super().__init__("\n".join(lines), REFUSED if refused else UNREACHABLE)
        self.problem = problem
        self.status = status

    def to_json(self) -> dict[str, Any]:
        return self.problem


class NoStoreError(CommandError):
    """The place where the command looks for tasks has no store."""


class UnreachableError(CommandError):
    def __init__(self, text: str) -> None:
        super().__init__(text, UNREACHABLE)


class Stopped(BaseException):
    """A signal asked the command to stop. It is no `Exception`, like KeyboardInterrupt, so that no
    handler of errors takes it for one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """Raises Stopped when a signal arrives, or at the end of `held`."""

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
        """Finish the block before a signal ends the command; only a second signal breaks in."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """Begin to hold signals, as `held` does."""
        self._holds += 1

    def release(self) -> None:
        """Stop holding signals, as the end of `held` does."""
        self._holds -= 1
        if self._holds == 0 and self._waiting is not None:
            number, self._waiting = self._waiting, None
            raise Stopped(number)


@contextmanager
def stop_signals() -> Iterator[StopSignals]:
    """Catch the signals while the block lasts. Only the main thread can use it."""
    signals = StopSignals()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, signals.receive)
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending(as_json: bool) -> Iterator[None]:
    """Turn an exception that ends the block into the exit status, and print it to the error output:
    in words, or as a JSON object.
    """
    try:
        yield
        sys.stdout.flush()
    except CommandError as error:
        if as_json:
            print(json.dumps(error.to_json()), file=sys.stderr)
        else:
            print_error(str(error))
        raise typer.Exit(error.code) from error
    except BrokenPipeError:
        # Python flushes stdout again at exit, and would report the broken pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None
    except Stopped as stopped:
        raise typer.Exit(128 + stopped.number) from None


@contextmanager
def carried_out(as_json: bool = False) -> Iterator[StopSignals]:
    """Surround a command: catch signals and turn its end into an exit status."""
    with ending(as_json), stop_signals() as signals:
        yield signals


def print_error(text: str) -> None:
    """Print to the error output. A word longer than a line, such as an id, stays whole."""
    for line in text.splitlines():
        shown = plain(line, _LONGEST)
        if sys.stderr.isatty():
            shown = at_words(shown, terminal_width(sys.stderr))
        print(shown, file=sys.stderr, flush=True)


def at_words(line: str, width: int) -> str:
    """Break a line between words; the following lines have the indent of the first."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def terminal_width(stream: TextIO) -> int:
    """Characters of a line of the terminal that the stream writes to; `COLUMNS` overrides it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
