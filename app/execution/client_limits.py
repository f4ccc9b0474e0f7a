"""The bound on the background tasks that one client may have waiting or running."""

from __future__ import annotations

from typing import Final

from hotloop.app.errors import ClientLimitError
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.model import Task

CLIENT_RETRY_SECONDS: Final = 30


def check_client(settings: Settings, task: Task, count: int, seconds: float) -> None:
    """Check that the client of `task` may have it beside `count` others of `seconds` in all. In one
    SQLite file requests that come at the same moment see each other; with PostgreSQL they may not.
    Raises ClientLimitError.
    """
    if count >= settings.client_tasks:
        raise ClientLimitError(
            f"{count:,} of your background tasks wait or run, and {settings.client_tasks:,} "
            "may; wait until some have ended, or cancel some",
            CLIENT_RETRY_SECONDS,
        )
    asked = task.estimated_seconds or 0.0
    if seconds + asked > settings.client_seconds:
        raise ClientLimitError(
            f"this task is estimated at {asked:,.0f} s, beside {seconds:,.0f} s of background "
            f"tasks of yours that wait or run, and {settings.client_seconds:,.0f} s may be; "
            "ask for fewer items, or wait, or cancel some",
            CLIENT_RETRY_SECONDS,
        )
