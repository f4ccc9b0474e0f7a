"""A spinner with words, and a bar with items, rate and what is left, for terminals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
)
from rich.spinner import Spinner
from rich.table import Column
from rich.text import Text

from hotloop.app.cli.screen import Say, rate_words
from hotloop.app.wording import plain


@contextmanager
def spinner(words: str) -> Iterator[Say]:
    """Turn beside the words on the error output until the block ends; nothing is left of it."""
    console = Console(stderr=True)
    turning = Spinner(_shape(console), _line(words))

    def say(words: str) -> None:
        turning.update(text=_line(words))

    # Whatever else is written there, as a warning of the log, goes its own way.
    with Live(
        turning, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ):
        yield say


def _line(words: str) -> Text:
    """Cut where the terminal ends: what is wrapped cannot be taken back."""
    return Text(f"{plain(words)} …", no_wrap=True, overflow="ellipsis")


def _shape(console: Console) -> str:
    return "dots" if console.encoding.startswith("utf") else "line"


class ProgressBar:
    """Says what the service says: its rate and estimate, not those of what was heard of it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID = progress.add_task("starting", total=None, told=None, at=0.0)

    def show(self, progress: dict[str, Any]) -> None:
        done, total = progress["items_processed"], progress["total_items"]
        self._progress.update(
            self._bar,
            # A bar without a total moves to and fro.
            total=total if done else None,
            completed=done,
            description=plain(progress["status"]),
            told=progress,
            at=time.monotonic(),
        )


class _Words(ProgressColumn):
    """The count, the pace and the time left, which counts down between two messages."""

    def __init__(self, unit: str) -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._unit = unit

    def render(self, task: Task) -> Text:
        told: dict[str, Any] | None = task.fields["told"]
        if told is None:
            return Text("")
        age = time.monotonic() - task.fields["at"]
        words = [
            f"{told['items_processed']:,}/{told['total_items']:,}",
            *rate_words(told, self._unit, age),
        ]
        return Text(", ".join(words), no_wrap=True)


@contextmanager
def progress_bar(unit: str) -> Iterator[ProgressBar]:
    """A bar on the error output, that is gone when the block ends."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(_shape(console)),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        _Words(unit),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressBar(progress)
