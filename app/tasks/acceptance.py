"""Tasks whose items come in one by one: accepted when all are there, or as if never asked for.

A task whose items are still coming in has no shards, and is executed by nobody; it gets them, all
at once, when it is accepted.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence

from sqlalchemy import Engine, delete, exists, select

from app.names import TaskStatus, TaskType
from app.tasks.engine import reading, writing
from app.tasks.model import Shard
from app.tasks.rows import conflict, update_task
from app.tasks.shard_rows import insert_shards
from app.tasks.tables import shards, tasks

_IS_INCOMPLETE = (
    tasks.c.task_type == TaskType.BACKGROUND,
    ~exists().where(shards.c.task_id == tasks.c.task_id),
)


def accept(
    engine: Engine, task_id: str, counts: Sequence[int], request_hash: str | None
) -> list[Shard]:
    """The task's items are all there: it is queued, in these shards of so many items.

    Blocks. Raises StoreError, TaskNotFoundError, and TaskConflictError when it was cancelled.
    """
    with writing(engine) as connection:
        values = {"request_hash": request_hash}
        if not update_task(connection, task_id, {TaskStatus.PENDING}, values):
            raise conflict(connection, task_id, "it is {status}; its items came too late")
        return insert_shards(connection, task_id, counts, time.time())


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
