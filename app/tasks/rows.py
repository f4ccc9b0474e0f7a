"""Statements on the row of one task, within a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, select, update

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.model import Task, is_task_id
from app.tasks.tables import tasks

TASK_FIELDS: Final = [tasks.c[field.name] for field in fields(Task)]


def task_row(connection: Connection, task_id: str) -> RowMapping:
    """All columns of the task. Raises TaskNotFoundError."""
    check_id(task_id)
    row = connection.execute(select(tasks).where(tasks.c.task_id == task_id)).mappings().first()
    if row is None:
        raise TaskNotFoundError(task_id)
    return row


def update_task(
    connection: Connection,
    task_id: str,
    statuses: Iterable[TaskStatus],
    values: dict[str, Any],
    attempt: int | None = None,
) -> bool:
    """Change the task if it is in one of `statuses`, and in the execution `attempt` where that is
    given; whether it was.
    """
    check_id(task_id)
    change = update(tasks).where(tasks.c.task_id == task_id, tasks.c.status.in_(statuses))
    if attempt is not None:
        change = change.where(tasks.c.attempt == attempt)
    return connection.execute(change.values(**values)).rowcount == 1


def conflict(
    connection: Connection, task_id: str, text: str, attempt: int | None = None
) -> TaskConflictError:
    """Why the task could not be changed: `text` with its state put in, or that it is no longer in
    the execution `attempt`. Raises TaskNotFoundError.
    """
    row = task_row(connection, task_id)
    if attempt is not None and row["attempt"] != attempt:
        text = "it has been taken over by a later execution, which goes on alone"
    return TaskConflictError(task_id, text.format(status=row["status"]))


def check_id(task_id: str) -> None:
    """Raises TaskNotFoundError for other text, which the database might refuse in its own way."""
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id)
