"""Watching a task to its end: progress on the error output, and cancelling it on the way out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.cli.stopping import Stopped, StopSignals
from app.wording import plain

if TYPE_CHECKING:
    from app.cli.service_client import ServiceClient

TASKS: Final = "/api/v1/tasks"
_LINES: Final = 10
"""Of progress, at most about, where it cannot be a bar."""


class Display(Protocol):
    """Shows how a task stands."""

    def show(self, progress: dict[str, Any]) -> None: ...


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
            print(progress_line(progress, self._unit), file=sys.stderr, flush=True)


def progress_line(progress: dict[str, Any], unit: str = "items") -> str:
    """Where a task stands, in words."""
    done, total = progress["items_processed"], progress["total_items"]
    text = f"{progress['task_id']} {progress['status']}, {done:,} of {total:,} {unit}"
    rate, left = progress["throughput_items_per_second"], progress["estimated_remaining_seconds"]
    if rate:
        text += f", {rate:,.{0 if rate >= 10 else 1}f} {unit}/s"
    if left is not None:
        text += f", {left:,.1f} s left"
    return plain(text)


@contextmanager
def display(*, quiet: bool, as_json: bool, unit: str = "items") -> Iterator[Display]:
    """A bar on a terminal, else lines; no lines where a machine reads the output."""
    if quiet or (as_json and not sys.stderr.isatty()):
        yield NoDisplay()
    elif not sys.stderr.isatty():
        yield LineDisplay(unit)
    else:
        from app.cli.progress_bar import progress_bar

        with progress_bar(unit) as bar:
            yield bar


@contextmanager
def cancelled_when_stopped(
    client: ServiceClient, task_id: str, signals: StopSignals
) -> Iterator[None]:
    """A task that was started is ended when the block is left by a signal; a second signal leaves
    at once.
    """
    try:
        yield
    except Stopped:
        print(f"cancelling {task_id} …", file=sys.stderr)
        view = client.call("DELETE", f"{TASKS}/{task_id}")
        print(progress_line(view), file=sys.stderr)
        raise


def watch(client: ServiceClient, task_id: str, shown: Display) -> dict[str, Any]:
    """The task once it has ended, as `GET /api/v1/tasks/status/…` has it."""
    for progress in client.progress(task_id):
        shown.show(progress)
    view: dict[str, Any] = client.call("GET", f"{TASKS}/status/{task_id}")
    return view
