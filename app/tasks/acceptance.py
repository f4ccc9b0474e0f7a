"""Tasks whose items come in one by one: accepted when all are there, or as if never asked for.

A task whose items are still coming in has no shards, and is executed by nobody; it gets them, all
at once, when it is accepted.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import fields

from sqlalchemy import Engine, delete, exists, or_, select
from sqlalchemy.exc import IntegrityError

from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks.engine import reading, writing
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.rows import conflict, task_row, to_task, update_task
from hotloop.app.tasks.shard_rows import insert_shards, task_needs
from hotloop.app.tasks.store import CheckUnfinished, unfinished
from hotloop.app.tasks.tables import shards, tasks

_IS_INCOMPLETE = (
    tasks.c.task_type == TaskType.BACKGROUND,
    ~exists().where(shards.c.task_id == tasks.c.task_id),
)


def accept(
    engine: Engine,
    task_id: str,
    counts: Sequence[int],
    request_hash: str | None,
    input_sha256: str | None = None,
    input_bytes: int = 0,
) -> list[Shard]:
    """The task's items are all there, in a file of this digest and size: it is queued, in these
    shards of so many items.

    Blocks. Raises StoreError, TaskNotFoundError, and TaskConflictError when it was cancelled.
    """
    with writing(engine) as connection:
        values = {
            "request_hash": request_hash,
            "input_sha256": input_sha256,
            "stored_bytes": tasks.c.stored_bytes + input_bytes,
        }
        if not update_task(connection, task_id, {TaskStatus.PENDING}, values):
            raise conflict(connection, task_id, "it is {status}; its items came too late")
        needs = task_needs(to_task(task_row(connection, task_id)))
        return insert_shards(connection, task_id, counts, time.time(), needs)


def move_to_background(
    engine: Engine, task: Task, counts: Sequence[int], check: CheckUnfinished
) -> list[Shard]:
    """Make a background task of the synchronous task of this id, whose execution has not begun:
    its row becomes `task`, and shards of so many items are queued in place of its one. All of that
    happens in one transaction: if the process dies before, the task ends with it. `check` is given
    what `TaskStore.unfinished` tells of the task's client, and keeps the task out by raising.

    Blocks. Raises StoreError, and TaskConflictError when its client has another task under the
    same key, or the task is no longer pending.
    """
    values = {field.name: getattr(task, field.name) for field in fields(task)}
    try:
        with writing(engine) as connection:
            check(*unfinished(connection, task.client))
            if not update_task(connection, task.task_id, {TaskStatus.PENDING}, values):
                text = "it is {status}; it was not accepted in the background"
                raise conflict(connection, task.task_id, text)
            connection.execute(delete(shards).where(shards.c.task_id == task.task_id))
            return insert_shards(connection, task.task_id, counts, time.time(), task_needs(task))
    except IntegrityError as error:
        raise TaskConflictError(task.task_id, "another task has its key") from error


def withdraw_unaccepted(engine: Engine, task_id: str) -> bool:
    """Forget a task that was not accepted in the background: its items never came in whole, or it
    is still the synchronous task that was to be moved. Whether there is no such task any more: one
    that was accepted stays. Blocks; raises StoreError.
    """
    unaccepted = or_(
        tasks.c.task_type == TaskType.SYNCHRONOUS, ~exists().where(shards.c.task_id == task_id)
    )
    mine = tasks.c.task_id == task_id
    with writing(engine) as connection:
        connection.execute(
            delete(tasks).where(mine, tasks.c.status == TaskStatus.PENDING, unaccepted)
        )
        return connection.scalar(select(tasks.c.task_id).where(mine)) is None


def withdraw_incomplete(engine: Engine, alive: Container[str]) -> list[str]:
    """Forget the tasks whose items will never be complete, because the process that received them
    is not among the nodes that are alive. Nobody was told that they were accepted. Returns their
    ids. Blocks; raises StoreError.
    """
    incomplete = select(tasks.c.task_id, tasks.c.owner).where(*_IS_INCOMPLETE)
    with reading(engine) as connection:
        found = connection.execute(incomplete).all()
    gone = [row.task_id for row in found if row.owner not in alive]
    for task_id in gone:
        with writing(engine) as connection:
            connection.execute(delete(tasks).where(tasks.c.task_id == task_id, *_IS_INCOMPLETE))
    return gone
