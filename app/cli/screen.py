"""The screen of a command while it works: a spinner, a bar or lines on the error output.

A terminal gets a spinner with words, and bars; a file, a pipe or a terminal that cannot move its
cursor gets lines; `--quiet`, and `--json` without a terminal, get nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Protocol

from hotloop.app.cli.lines import duration, print_error
from hotloop.app.wording import plain

_LINES: Final = 10
"""Lines of progress at most, about, where it cannot be a bar."""

LONG_SECONDS: Final = 60.0
"""A job that is estimated to take longer is announced with its estimate."""

Say = Callable[[str], None]
"""Changes the words beside a spinner."""


class Display(Protocol):
    """Shows how a task stands."""

    def show(self, progress: dict[str, Any]) -> None: ...


class Screen(Protocol):
    """Where a command says that it waits, and for what."""

    def waiting(self, words: str, *, is_long: bool = False) -> AbstractContextManager[Say]:
        """Show while the block lasts what is waited for. As a line only if the wait `is_long`,
        which means that it often takes seconds.
        """
        ...

    def progress(self, unit: str = "items") -> AbstractContextManager[Display]:
        """Show how far a task is, counted in units, while the block lasts."""
        ...

    def say(self, text: str) -> None:
        """Say something about the work."""
        ...


def screen(*, as_json: bool, quiet: bool = False) -> Screen:
    """The screen of this command."""
    is_terminal = sys.stderr.isatty()
    if quiet or (as_json and not is_terminal):
        return SilentScreen()
    if is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        return LiveScreen()
    return LineScreen()


def say_estimate(shown: Screen, task: dict[str, Any]) -> None:
    """Announce a job of more than a minute; one that cannot be estimated is begun without."""
    seconds = task["estimated_seconds"]
    if seconds is not None and seconds > LONG_SECONDS:
        words = f"is estimated to take {duration(seconds)}. Ctrl-C cancels it."
        shown.say(f"{task['task_id']} {words}")


class SilentScreen:
    """Shows nothing."""

    def waiting(self, words: str, *, is_long: bool = False) -> AbstractContextManager[Say]:
        return nullcontext(_unheard)

    def progress(self, unit: str = "items") -> AbstractContextManager[Display]:
        return nullcontext(NoDisplay())

    def say(self, text: str) -> None:
        pass


class LineScreen:
    """Writes lines, for files, pipes and terminals that cannot move their cursor."""

    def waiting(self, words: str, *, is_long: bool = False) -> AbstractContextManager[Say]:
        if is_long:
            print_error(f"{words} …")
        return nullcontext(_unheard)

    def progress(self, unit: str = "items") -> AbstractContextManager[Display]:
        return nullcontext(LineDisplay(unit))

    def say(self, text: str) -> None:
        print_error(text)


class LiveScreen:
    """Shows a spinner or a bar on the last line of a terminal, which is gone when the wait is."""

    @contextmanager
    def waiting(self, words: str, *, is_long: bool = False) -> Iterator[Say]:
        from hotloop.app.cli.progress_bar import spinner

        with spinner(words) as say:
            yield say

    @contextmanager
    def progress(self, unit: str = "items") -> Iterator[Display]:
        from hotloop.app.cli.progress_bar import progress_bar

        with progress_bar(unit) as bar:
            yield bar

    def say(self, text: str) -> None:
        print_error(text)


class NoDisplay:
    """Shows nothing."""

    def show(self, progress: dict[str, Any]) -> None:
        pass


class LineDisplay:
    """A line for each change of state and each tenth; `unit` is what is counted."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._shown: tuple[str, int] | None = None

    def show(self, progress: dict[str, Any]) -> None:
        at = (progress["status"], int(progress["progress"] * _LINES))
        if at != self._shown:
            self._shown = at
            print_error(progress_line(progress, self._unit))


def progress_line(progress: dict[str, Any], unit: str = "items") -> str:
    """A sentence of how a task stands."""
    done, total = progress["items_processed"], progress["total_items"]
    text = f"{progress['task_id']} {progress['status']}, {done:,} of {total:,} {unit}"
    words = [text, *rate_words(progress, unit)]
    return plain(", ".join(words))


def rate_words(progress: dict[str, Any], unit: str, age_seconds: float = 0.0) -> list[str]:
    """The rate and the time that is left, as far as they are known; `age_seconds` is how long ago
    the service told of this progress.
    """
    rate, left = progress["throughput_items_per_second"], progress["estimated_remaining_seconds"]
    words = []
    if rate:
        words.append(f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s")
    if left is not None and left > age_seconds:
        words.append(f"{duration(left - age_seconds)} left")
    return words


def _unheard(words: str) -> None:
    pass
