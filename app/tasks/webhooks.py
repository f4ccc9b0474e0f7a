"""Webhooks in the store: which tasks' ends are still to be told, and how often that was tried.

A row comes with its task, in the same transaction. It becomes due in the transaction that ends the
task, so a process that dies in between loses no call. A process that makes a call first moves the
row's next attempt ahead (`take`), so that no other process makes the same call meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from hotloop.app.database.engine import reading, writing
from hotloop.app.tasks.model import Task, utc_now
from hotloop.app.tasks.rows import TASK_FIELDS, to_task
from hotloop.app.tasks.tables import tasks, webhooks

_OF_TASK: Final = webhooks.c.task_id == sa.bindparam("of_task")
_AGAIN: Final = (
    sa.update(webhooks)
    .where(_OF_TASK)
    .values(number=webhooks.c.number + 1, attempts=0, next_at=None, delivered_at=None, error=None)
)


@dataclass(frozen=True, slots=True)
class Due:
    """An attempt that is due: the end of `task` is to be told."""

    task: Task
    number: int
    """The number of the end: a task that was resumed ends again."""
    attempts: int
    """Attempts made before."""
    next_at: float


@dataclass(frozen=True, slots=True)
class WebhookState:
    """The outcome of a webhook so far."""

    attempts: int
    delivered_at: datetime | None
    error: str | None
    """The reason why the last attempt failed."""


def add_webhook(connection: Connection, task: Task) -> None:
    """Store the webhook of a new task, if it has one, within the caller's transaction."""
    if task.webhook is not None:
        connection.execute(sa.insert(webhooks).values(task_id=task.task_id))


def task_goes_on(connection: Connection, task_id: str) -> None:
    """Forget that a task has ended, as it is resumed in the caller's transaction."""
    connection.execute(_AGAIN, {"of_task": task_id})


class WebhookStore:
    """Webhooks in the store. All methods block, and raise StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def due(self, limit: int) -> Sequence[Due]:
        """Return attempts that are due, the longest first."""
        wanted = (
            sa.select(webhooks.c.number, webhooks.c.attempts, webhooks.c.next_at, *TASK_FIELDS)
            .join(tasks, tasks.c.task_id == webhooks.c.task_id)
            .where(webhooks.c.next_at <= time.time())
            .order_by(webhooks.c.next_at)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            found = connection.execute(wanted).mappings().all()
        return [Due(to_task(r), r["number"], r["attempts"], r["next_at"]) for r in found]

    def take(self, due: Due, until: float) -> bool:
        """Keep other processes from this attempt until a time, unix seconds. False if another one
        has taken it, or the task was resumed or deleted.
        """
        return self._change(due, {"next_at": until, "attempts": due.attempts + 1}, due.next_at)

    def delivered(self, due: Due, until: float) -> None:
        """Store that an attempt, which was taken until a time, has succeeded."""
        self._change(due, {"next_at": None, "delivered_at": utc_now(), "error": None}, until)

    def failed(self, due: Due, until: float, error: str, next_at: float | None) -> None:
        """Store that an attempt has failed; None makes no other one."""
        self._change(due, {"next_at": next_at, "error": error}, until)

    def _change(self, due: Due, values: dict[str, Any], next_at: float) -> bool:
        mine = (
            webhooks.c.task_id == due.task.task_id,
            webhooks.c.number == due.number,
            webhooks.c.next_at == next_at,
        )
        with writing(self._engine) as connection:
            return (
                connection.execute(sa.update(webhooks).where(*mine).values(**values)).rowcount == 1
            )

    def state(self, task_id: str) -> WebhookState | None:
        """Return what became of a task's webhook; None without one."""
        columns = webhooks.c.attempts, webhooks.c.delivered_at, webhooks.c.error
        with reading(self._engine) as connection:
            found = connection.execute(
                sa.select(*columns).where(webhooks.c.task_id == task_id)
            ).first()
        return None if found is None else WebhookState(*found)
