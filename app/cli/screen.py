"""The screen of a command while it works: a spinner, a bar or lines on the error output.

A terminal gets a spinner with words, and bars; a file, a pipe or a terminal that cannot move its
cursor gets lines; `--quiet`, and `--json` without a terminal, get nothing. The terminal's part
loads rich only when it is used.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.cli.exits import print_error
from hotloop.app.wording import plain

if TYPE_CHECKING:
    from rich.console import Console

_LINES: Final = 10
"""Lines of progress at most, about, where it cannot be a bar."""

LONG_SECONDS: Final = 60.0
"""A job that is estimated to take longer is announced with its estimate."""

Say = Callable[[str], None]
"""Changes the words beside a spinner."""

Progress = dict[str, Any]
"""A task's state as the service's events have it."""

Show = Callable[[Progress], None]
"""Shows the state of a task."""


def _nothing(_: object) -> None:
    pass


class Screen:
    """Tells the user what a command waits for. This class shows nothing."""

    def waiting(self, words: str, *, is_long: bool = False) -> AbstractContextManager[Say]:
        """Show the words while the block lasts. As a line only if the wait `is_long`: it often
        takes seconds.
        """
        return nullcontext(_nothing)

    def progress(self, unit: str = "items") -> AbstractContextManager[Show]:
        """Show how far a task is, counted in units, while the block lasts."""
        return nullcontext(_nothing)

    def say(self, text: str) -> None:
        """Say something about the work."""


class LineScreen(Screen):
    """Writes lines, for files, pipes and terminals that cannot move their cursor."""

    def waiting(self, words: str, *, is_long: bool = False) -> AbstractContextManager[Say]:
        if is_long:
            print_error(f"{words} …")
        return nullcontext(_nothing)

    def progress(self, unit: str = "items") -> AbstractContextManager[Show]:
        """A line for each change of state and each tenth."""
        shown: tuple[str, int] | None = None

        def show(progress: Progress) -> None:
            nonlocal shown
            at = (progress["status"], int(progress["progress"] * _LINES))
            if at != shown:
                shown = at
                print_error(progress_line(progress, unit))

        return nullcontext(show)

    def say(self, text: str) -> None:
        print_error(text)


class LiveScreen(Screen):
    """Shows a spinner or a bar on the last line of a terminal, and removes it after the wait."""

    @contextmanager
    def waiting(self, words: str, *, is_long: bool = False) -> Iterator[Say]:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        def line(words: str) -> Text:
            # Cut where the terminal ends: a wrapped line cannot be taken back.
            return Text(f"{plain(words)} …", no_wrap=True, overflow="ellipsis")

        console = Console(stderr=True)
        turning = Spinner(_shape(console), line(words))
        # Other output there, such as a warning of the log, is left alone.
        with Live(
            turning, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
        ):
            yield lambda words: turning.update(text=line(words))

    @contextmanager
    def progress(self, unit: str = "items") -> Iterator[Show]:
        """A bar with the rate and the estimate that the service sends."""
        from rich import progress as bars
        from rich.console import Console
        from rich.table import Column
        from rich.text import Text

        class Words(bars.ProgressColumn):
            """The count, the rate and the time left, which counts down between two events."""

            def render(self, task: bars.Task) -> Text:
                told: Progress | None = task.fields["told"]
                if told is None:
                    return Text("")
                count = f"{told['items_processed']:,}/{told['total_items']:,}"
                words = rate_words(told, unit, time.monotonic() - task.fields["at"])
                return Text(", ".join([count, *words]), no_wrap=True)

        console = Console(stderr=True)
        columns = (
            bars.SpinnerColumn(_shape(console)),
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.TaskProgressColumn(),
            Words(table_column=Column(no_wrap=True)),
        )
        with bars.Progress(*columns, console=console, transient=True) as shown:
            bar = shown.add_task("starting", total=None, told=None, at=0.0)

            def show(progress: Progress) -> None:
                done = progress["items_processed"]
                shown.update(
                    bar,
                    # Without a total, the bar moves to and fro.
                    total=progress["total_items"] if done else None,
                    completed=done,
                    description=plain(progress["status"]),
                    told=progress,
                    at=time.monotonic(),
                )

            yield show

    def say(self, text: str) -> None:
        print_error(text)


def screen(*, as_json: bool, quiet: bool = False) -> Screen:
    """Choose the screen for this command's options and error output."""
    is_terminal = sys.stderr.isatty()
    if quiet or (as_json and not is_terminal):
        return Screen()
    if is_terminal and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        return LiveScreen()
    return LineScreen()


def say_estimate(shown: Screen, task: Progress) -> None:
    """Announce a job of more than a minute; a job that cannot be estimated is not announced."""
    seconds = task["estimated_seconds"]
    if seconds is not None and seconds > LONG_SECONDS:
        words = f"is estimated to take {duration(seconds)}. Ctrl-C cancels it."
        shown.say(f"{task['task_id']} {words}")


def progress_line(progress: Progress, unit: str = "items") -> str:
    """A sentence about the state of a task."""
    done, total = progress["items_processed"], progress["total_items"]
    text = f"{progress['task_id']} {progress['status']}, {done:,} of {total:,} {unit}"
    return plain(", ".join([text, *rate_words(progress, unit)]))


def rate_words(progress: Progress, unit: str, age_seconds: float = 0.0) -> list[str]:
    """Say the rate and the remaining time, if they are known. The service sent this progress
    `age_seconds` ago.
    """
    rate, left = progress["throughput_items_per_second"], progress["estimated_remaining_seconds"]
    words = []
    if rate:
        words.append(f"{rate:,.{0 if rate >= 10 else 1}f} {unit}/s")
    if left is not None and left > age_seconds:
        words.append(f"{duration(left - age_seconds)} left")
    return words


def duration(value: float) -> str:
    """A time in words of at most two units: `17 s`, `4 min 10 s`, `1 h 20 min`, `3 d 4 h`."""
    total = max(round(value), 0)
    for unit, size, smaller, smaller_size in _UNITS:
        if total >= size:
            rest = total % size // smaller_size
            return f"{total // size:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{total} s"


_UNITS: Final = (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1))


def _shape(console: Console) -> str:
    return "dots" if console.encoding.startswith("utf") else "line"
