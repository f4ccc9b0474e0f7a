"""Watching a task to its end, and cancelling it on the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from hotloop.app.cli.lines import print_error
from hotloop.app.cli.screen import Screen, progress_line
from hotloop.app.cli.stopping import Stopped, StopSignals

if TYPE_CHECKING:
    from hotloop.app.cli.service_client import ServiceClient

TASKS: Final = "/api/v1/tasks"


@contextmanager
def cancelled_when_stopped(
    client: ServiceClient, task_id: str, signals: StopSignals, screen: Screen
) -> Iterator[None]:
    """A task that was started is ended when the block is left by a signal; a second signal leaves
    at once.
    """
    try:
        yield
    except Stopped:
        print_error(f"cancelling {task_id} …")
        with screen.waiting("cancelling"):
            view = client.call("DELETE", f"{TASKS}/{task_id}")
        print_error(progress_line(view))
        raise


def watch(
    client: ServiceClient, task_id: str, screen: Screen, unit: str = "items"
) -> dict[str, Any]:
    """The task once it has ended, as `GET /api/v1/tasks/status/…` has it."""
    with screen.progress(unit) as shown:
        for progress in client.progress(task_id):
            shown.show(progress)
    with screen.waiting("fetching the result"):
        view: dict[str, Any] = client.call("GET", f"{TASKS}/status/{task_id}")
    return view
