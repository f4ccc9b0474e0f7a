"""A bar with items, rate and what is left, for terminals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from app.wording import plain


class ProgressBar:
    """Says what the service says: its rate and estimate, not those of what was heard of it."""

    def __init__(self, progress: Progress, unit: str) -> None:
        self._unit = unit
        self._progress = progress
        self._bar: TaskID = progress.add_task("starting", total=None, rate="")

    def show(self, progress: dict[str, Any]) -> None:
        done, total = progress["items_processed"], progress["total_items"]
        rate, left = (
            progress["throughput_items_per_second"],
            progress["estimated_remaining_seconds"],
        )
        words = [f"{done:,}/{total:,}"]
        if rate:
            words.append(f"{rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s")
        if left is not None:
            words.append(f"{left:,.1f} s left")
        self._progress.update(
            self._bar,
            # A bar without a total moves to and fro.
            total=total if done else None,
            completed=done,
            description=plain(progress["status"]),
            rate=", ".join(words),
        )


@contextmanager
def progress_bar(unit: str) -> Iterator[ProgressBar]:
    """A bar on the error output, that is gone when the block ends."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as progress:
        yield ProgressBar(progress, unit)
