"""Tasks that are accepted after they were made, and tasks that only serve another one.

A background task whose items are still coming in has no shards, so no node executes it. When all
items are there it is accepted: it gets all of its shards at once. Otherwise it is withdrawn, and
leaves no trace.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import Engine, delete, exists, or_, select
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.engine import writing
from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks import rows
from hotloop.app.tasks.model import PART, Shard, ShardRef, Task, new_task_id, utc_now
from hotloop.app.tasks.store import CheckUnfinished, TaskStore, unfinished
from hotloop.app.tasks.tables import shards, tasks


def accept(
    engine: Engine,
    task_id: str,
    counts: Sequence[int],
    request_hash: str | None,
    input_sha256: str | None = None,
    input_bytes: int = 0,
) -> list[Shard]:
    """Queue a task whose items are complete, in shards of `counts` items. The digest and size
    describe the file that the items come from.

    Blocks. Raises StoreError, TaskNotFoundError, and TaskConflictError if it was cancelled.
    """
    with writing(engine) as connection:
        values = {
            "request_hash": request_hash,
            "input_sha256": input_sha256,
            "stored_bytes": tasks.c.stored_bytes + input_bytes,
        }
        if not rows.update_task(connection, task_id, {TaskStatus.PENDING}, values):
            raise rows.conflict(connection, task_id, "it is {status}; its items came too late")
        task = rows.to_task(rows.task_row(connection, task_id))
        return rows.insert_shards(connection, task, counts, time.time())


def move_to_background(
    engine: Engine, task: Task, counts: Sequence[int], check: CheckUnfinished
) -> list[Shard]:
    """Turn a synchronous task whose execution has not begun into the background task `task`, with
    shards of `counts` items in place of its single one, and queue them. That is one transaction: if
    the process dies before it, the task ends with the process. `check` is called with what
    `TaskStore.unfinished` returns for the task's client, and may raise to refuse the task.

    Blocks. Raises StoreError, and TaskConflictError when its client has another task under the
    same key, or the task is no longer pending.
    """
    try:
        with writing(engine) as connection:
            check(*unfinished(connection, task.client))
            if not rows.update_task(
                connection, task.task_id, {TaskStatus.PENDING}, rows.task_values(task)
            ):
                text = "it is {status}; it was not accepted in the background"
                raise rows.conflict(connection, task.task_id, text)
            connection.execute(delete(shards).where(shards.c.task_id == task.task_id))
            return rows.insert_shards(connection, task, counts, time.time())
    except IntegrityError as error:
        raise TaskConflictError(task.task_id, "another task has its key") from error


def withdraw_unaccepted(engine: Engine, task_id: str) -> bool:
    """Remove a task that was not accepted in the background: its items were never complete, or it
    is still the synchronous task that was to be moved. An accepted task stays. Return True if the
    task does not exist any more. Blocks; raises StoreError.
    """
    unaccepted = or_(
        tasks.c.task_type == TaskType.SYNCHRONOUS, ~exists().where(shards.c.task_id == task_id)
    )
    mine = tasks.c.task_id == task_id
    gone = delete(tasks).where(mine, tasks.c.status == TaskStatus.PENDING, unaccepted)
    with writing(engine) as connection:
        connection.execute(gone)
        return connection.scalar(select(tasks.c.task_id).where(mine)) is None


@asynccontextmanager
async def begun_part(
    store: TaskStore,
    node: str,
    total_items: int,
    workload: str,
    kernel: str = "",
    strategy: str = "",
    client: str | None = None,
) -> AsyncIterator[Shard]:
    """Begin a task that serves another one, in this process, which is `node`. It is removed when
    the block ends. Raises StoreError.
    """
    task = Task(
        task_id=new_task_id(),
        task_type=TaskType.SYNCHRONOUS,
        kind=PART,
        spec={},
        workload=workload,
        kernel=kernel,
        strategy=strategy,
        total_items=total_items,
        created_at=utc_now(),
        owner=node,
        client=client,
    )
    try:
        await in_store_thread(store.create, task)
        yield await in_store_thread(store.shards.begin, ShardRef(task.task_id, 0, 0), node)
    finally:
        await asyncio.shield(in_store_thread(store.remove_part, task.task_id))
