"""Trying the failed items of a completed task again.

The rows of failed items are removed from the stored results, and the task becomes pending: its
execution then computes what is missing, as after a resume. Failed rows count for no checksum, so
that of the remaining rows stays as it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection, Engine, RowMapping

from hotloop.app.database.engine import slow, writing
from hotloop.app.errors import StoreError, TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks import rows
from hotloop.app.tasks.chunks import (
    Chunk,
    ResultColumns,
    ResultRows,
    chunk_values,
    pack_rows,
    unpack,
)
from hotloop.app.tasks.model import Shard, ShardRef
from hotloop.app.tasks.tables import results, tasks
from hotloop.app.tasks.webhooks import task_goes_on

MOST_PIECES: Final = 1_000
"""Pieces that the remaining rows of a chunk may be stored in; with more, the task is refused."""


def retry_failed(engine: Engine, task_id: str) -> list[ShardRef]:
    """Make a completed background task pending again, and remove the results of its failed items.
    Return the shards to be executed. Blocks.

    Raises StoreError, TaskNotFoundError, and TaskConflictError for a task in another state,
    without failed items, or whose failed items lie too scattered.
    """
    with writing(engine) as connection, slow(connection):
        rows.lock_task(connection, task_id)
        task = rows.task_row(connection, task_id)
        _check(task)
        columns: ResultColumns = tuple((name, dtype) for name, dtype in task["result_columns"])
        again = [s for s in rows.all_shards(connection, task_id) if s.failed_items]
        for shard in again:
            _clear(connection, shard, columns)
        failed = task["failed_items"]
        values: dict[str, Any] = {
            "status": TaskStatus.PENDING,
            "end_time": None,
            "items_processed": tasks.c.items_processed - failed,
            "failed_items": 0,
        }
        if not again or not rows.update_task(connection, task_id, {TaskStatus.COMPLETED}, values):
            raise StoreError(f"the results of task {task_id} are damaged; send the request again")
        task_goes_on(connection, task_id)
    return [ShardRef(s.task_id, s.shard, s.generation + 1) for s in again]


def _check(task: RowMapping) -> None:
    task_id = task["task_id"]
    if task["task_type"] != TaskType.BACKGROUND:
        text = "it was synchronous; ask for it again, in the background if items may fail"
        raise TaskConflictError(task_id, text)
    if task["status"] is not TaskStatus.COMPLETED:
        text = f"it is {task['status']}; only a completed task's failed items are tried again"
        raise TaskConflictError(task_id, text)
    if not task["failed_items"]:
        raise TaskConflictError(task_id, "none of its items has failed")


def _clear(connection: Connection, shard: Shard, columns: ResultColumns) -> None:
    """Remove the results of a shard's failed items, and queue it."""
    is_mine = (
        results.c.task_id == shard.task_id,
        results.c.start >= shard.start,
        results.c.start < shard.start + shard.count,
    )
    fields = [results.c[name] for name in ("start", "count", "failed", "crc32", "rows")]
    found = sa.select(*fields).where(*is_mine, results.c.failed > 0).order_by(results.c.start)
    for row in connection.execute(found).all():
        chunk = Chunk(*row)
        gone = sa.delete(results).where(
            results.c.task_id == shard.task_id, results.c.start == chunk.start
        )
        connection.execute(gone)
        pieces = list(_good_pieces(shard.task_id, chunk, columns))
        if pieces:
            values = [{"task_id": shard.task_id, **chunk_values(piece)} for piece in pieces]
            connection.execute(sa.insert(results), values)
    rows.update_shard(
        connection,
        shard.ref,
        {
            "status": TaskStatus.PENDING,
            "generation": shard.generation + 1,
            "queued_at": time.time(),
            "node": None,
            "beginnings": 0,
            "retry_at": None,
            "items_processed": shard.items_processed - shard.failed_items,
            "failed_items": 0,
            "details": {**(shard.details or {}), "errors": []},
        },
    )


def _good_pieces(task_id: str, chunk: Chunk, columns: ResultColumns) -> Iterator[Chunk]:
    """Yield the rows between the failed ones of a chunk."""
    block: ResultRows = unpack(chunk, columns)
    # The edges of each run of rows that are good: its first row, and the one after its last.
    edges = np.flatnonzero(np.diff(np.concatenate([[True], block.failed, [True]]).astype(np.int8)))
    if len(edges) // 2 > MOST_PIECES:
        text = (
            f"its failed items lie too scattered to be tried alone (over {MOST_PIECES:,} places "
            f"among {chunk.count:,} items); send the request again"
        )
        raise TaskConflictError(task_id, text)
    for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield pack_rows(chunk.start + first, block.part(first, end), columns)
