"""Statements on the row of one task, within a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, case, select, update

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks.model import Task, is_task_id, may_become
from hotloop.app.tasks.tables import tasks

TASK_FIELDS: Final = [tasks.c[field.name] for field in fields(Task)]


_RESULTS: Final = tasks.c.items_processed * tasks.c.item_bytes
_MISSING: Final = (tasks.c.total_items - tasks.c.items_processed) * tasks.c.item_bytes
# The input of a synchronous task goes with its end, whatever that is: it cannot be resumed.
_RESUMABLE: Final = {
    "stored_bytes": case(
        (tasks.c.task_type == TaskType.SYNCHRONOUS, _RESULTS),
        else_=tasks.c.stored_bytes - _MISSING,
    )
}
_STORED: Final[dict[TaskStatus, dict[str, Any]]] = {
    TaskStatus.COMPLETED: {"stored_bytes": _RESULTS},
    TaskStatus.FAILED: _RESUMABLE,
    TaskStatus.CANCELLED: _RESUMABLE,
    TaskStatus.PENDING: {"stored_bytes": tasks.c.stored_bytes + _MISSING},
}
"""What a task stores once it has moved to a state."""


def to_task(row: RowMapping) -> Task:
    """The task of a row. A spec that is no JSON object is read as an empty one."""
    values = {field.name: row[field.name] for field in fields(Task)}
    if not isinstance(values["spec"], dict):
        values["spec"] = {}
    if not isinstance(values["measurements"], dict):
        values["measurements"] = None
    return Task(**values)


def task_row(connection: Connection, task_id: str) -> RowMapping:
    """All columns of the task. Raises TaskNotFoundError."""
    check_id(task_id)
    row = connection.execute(select(tasks).where(tasks.c.task_id == task_id)).mappings().first()
    if row is None:
        raise TaskNotFoundError(task_id)
    return row


def lock_task(connection: Connection, task_id: str) -> None:
    """Keep others from writing to the task and its shards until the transaction ends.

    Raises TaskNotFoundError.
    """
    check_id(task_id)
    locked = select(tasks.c.task_id).where(tasks.c.task_id == task_id).with_for_update()
    if connection.scalar(locked) is None:
        raise TaskNotFoundError(task_id)


def update_task(
    connection: Connection,
    task_id: str,
    statuses: Iterable[TaskStatus],
    values: dict[str, Any],
) -> bool:
    """Change the task if it is in one of `statuses`; whether it was. What it stores is counted
    anew when it ends, or is to go on.
    """
    check_id(task_id)
    change = update(tasks).where(tasks.c.task_id == task_id, tasks.c.status.in_(statuses))
    stored = _STORED.get(values.get("status", TaskStatus.RUNNING), {})
    return connection.execute(change.values(**{**stored, **values})).rowcount == 1


def move_task(
    connection: Connection, task_id: str, status: TaskStatus, values: dict[str, Any]
) -> None:
    """Move the task as MOVES allows. Raises TaskNotFoundError, TaskConflictError."""
    if not update_task(connection, task_id, may_become(status), {"status": status, **values}):
        raise conflict(connection, task_id, f"it is {{status}} and cannot become {status}")


def conflict(connection: Connection, task_id: str, text: str) -> TaskConflictError:
    """Why the task could not be changed: `text` with its state put in. Raises TaskNotFoundError."""
    return TaskConflictError(task_id, text.format(status=task_row(connection, task_id)["status"]))


def check_id(task_id: str) -> None:
    """Raises TaskNotFoundError for other text, which the database might refuse in its own way."""
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id)
