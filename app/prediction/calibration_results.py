"""Where the results of calibrating runs go: to the store, like those of any run, and away again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Final

from hotloop import kernels
from hotloop.app.runhost.messages import Batches
from hotloop.app.tasks.acceptance import begun_part
from hotloop.app.tasks.chunks import pack
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread

MOST_ITEMS: Final = 1 << 40
"""More than all calibrating runs have together: each one's results follow those of the last."""

StoreResults = Callable[[Batches], Awaitable[None]]
StoresResults = Callable[[], AbstractAsyncContextManager[StoreResults]]


@asynccontextmanager
async def stored_results(store: TaskStore, node: str) -> AsyncIterator[StoreResults]:
    """Store results as a run's are stored, which takes its part of the CPUs, and forget them when
    the block ends. `node` is this process, as the store names it. Raises StoreError.
    """
    stored = 0
    async with begun_part(store, node, MOST_ITEMS, kernels.workloads()[0]) as shard:

        def add(event: Batches) -> None:
            nonlocal stored
            found = event.results[0].columns
            columns = tuple((name, column.dtype.name) for name, column in found.items())
            packed = pack(event.results, columns)
            chunks = [
                replace(chunk, start=stored + chunk.start - packed[0].start) for chunk in packed
            ]
            store.shards.add_results(shard.ref, shard.attempt, chunks, 0, 0, {})
            stored = chunks[-1].start + chunks[-1].count

        async def store_results(event: Batches) -> None:
            await in_store_thread(add, event)

        yield store_results
