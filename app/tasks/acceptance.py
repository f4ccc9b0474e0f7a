"""What keeps the queue and the shards in step: when a task is accepted, and when its work is lost.

A task whose items are still coming in has no shards, and is executed by nobody; it gets them, all
at once, when it is accepted.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from sqlalchemy import Engine, delete, exists, select, update

from app.names import TaskStatus, TaskType
from app.tasks.engine import reading, writing
from app.tasks.model import UNFINISHED, ShardRef
from app.tasks.rows import conflict, update_task
from app.tasks.shards import insert_shards
from app.tasks.tables import shards, tasks

_IS_INCOMPLETE = (
    tasks.c.task_type == TaskType.BACKGROUND,
    ~exists().where(shards.c.task_id == tasks.c.task_id),
)


def accept(engine: Engine, task_id: str, counts: Sequence[int], request_hash: str | None) -> None:
    """The task's items are all there: from now on it is executed, in shards of so many items.

    Blocks. Raises StoreError, TaskNotFoundError, and TaskConflictError when it was cancelled.
    """
    with writing(engine) as connection:
        values = {"request_hash": request_hash}
        if not update_task(connection, task_id, {TaskStatus.PENDING}, values):
            raise conflict(connection, task_id, "it is {status}; its items came too late")
        insert_shards(connection, task_id, counts)


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


def renew(engine: Engine, ref: ShardRef) -> ShardRef | None:
    """Its work in the queue has ended and it has not: the shard as new work, which goes on from
    there. None when it has ended after all, or is other work by now. Blocks; raises StoreError.
    """
    lost = (
        update(shards)
        .where(
            shards.c.task_id == ref.task_id,
            shards.c.shard == ref.shard,
            shards.c.generation == ref.generation,
            shards.c.status.in_(UNFINISHED),
        )
        .values(generation=ref.generation + 1)
    )
    with writing(engine) as connection:
        if not connection.execute(lost).rowcount:
            return None
    return replace(ref, generation=ref.generation + 1)
