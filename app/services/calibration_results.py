"""Where the results of calibrating runs go: to the store, like those of any run, and away again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final

import kernels
from app.names import TaskType
from app.runhost.messages import Batches
from app.tasks.chunks import pack
from app.tasks.model import PART, ShardRef, Task, new_task_id, utc_now
from app.tasks.store import TaskStore
from app.tasks.threads import in_store_thread

MOST_ITEMS: Final = 1 << 40
"""More than all calibrating runs have together: each one's results follow those of the last."""

StoreResults = Callable[[Batches], Awaitable[None]]
StoresResults = Callable[[], AbstractAsyncContextManager[StoreResults]]


@asynccontextmanager
async def stored_results(store: TaskStore, node: str) -> AsyncIterator[StoreResults]:
    """Store results as a run's are stored, which takes its part of the CPUs, and forget them when
    the block ends. `node` is this process, as the store names it. Raises StoreError.
    """
    task = Task(
        task_id=new_task_id(),
        task_type=TaskType.SYNCHRONOUS,
        kind=PART,
        spec={},
        workload=kernels.workloads()[0],
        kernel="",
        strategy="",
        total_items=MOST_ITEMS,
        created_at=utc_now(),
        owner=node,
    )
    stored = 0
    try:
        await in_store_thread(store.create, task)
        ref = ShardRef(task.task_id, 0, 0)
        shard = await in_store_thread(store.shards.begin, ref, node)

        def add(event: Batches) -> None:
            nonlocal stored
            found = event.results[0].columns
            columns = tuple((name, column.dtype.name) for name, column in found.items())
            packed = pack(event.results, columns)
            chunks = [
                replace(chunk, start=stored + chunk.start - packed[0].start) for chunk in packed
            ]
            store.shards.add_results(ref, shard.attempt, chunks, 0, 0, {})
            stored = chunks[-1].start + chunks[-1].count

        async def store_results(event: Batches) -> None:
            await in_store_thread(add, event)

        yield store_results
    finally:
        await asyncio.shield(in_store_thread(store.remove_part, task.task_id))
