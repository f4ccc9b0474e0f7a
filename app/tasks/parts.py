"""Tasks that only serve another one: they are in no list, and nothing of them is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hotloop.app.names import TaskType
from hotloop.app.tasks.model import PART, Shard, ShardRef, Task, new_task_id, utc_now
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread


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
    """Begin a task of this process, which the store names `node`; it is gone when the block ends.
    Raises StoreError.
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
