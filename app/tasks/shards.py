"""The shards of tasks: who executes them, how far they are, and what is still missing.

A shard is executed by one process at a time, each time as a new *attempt*. What a process stores
it stores as the attempt that it began: once another has begun, or the task was cancelled, nothing
that it writes is taken any more (fencing). So a frozen process that comes back does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, RowMapping, select, update

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.records import JsonObject
from hotloop.app.tasks.chunks import Chunk
from hotloop.app.tasks.engine import reading, writing
from hotloop.app.tasks.inputs import forget_inputs
from hotloop.app.tasks.model import (
    FINISHED,
    UNFINISHED,
    Shard,
    ShardRef,
    may_become,
    utc_now,
)
from hotloop.app.tasks.results import insert_chunks
from hotloop.app.tasks.rows import conflict, lock_task, move_task, task_row, update_task
from hotloop.app.tasks.shard_rows import (
    TAKEN_OVER,
    all_shards,
    begin_shard,
    check_current,
    current_shard,
    end_shards,
    ended_beginning,
    is_shard,
    shard_row,
)
from hotloop.app.tasks.tables import results, shards, tasks

Summarize = Callable[[Sequence[Shard]], JsonObject]
"""Makes a task's measurements out of its shards' details."""


class ShardStore:
    """All methods block, are one transaction each, and raise StoreError when the database cannot
    be used, TaskNotFoundError for a task that is not there, and TaskConflictError when the
    shard's state, or a later execution, does not allow what is asked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(
        self,
        ref: ShardRef,
        node: str,
        total_items: int | None = None,
        *,
        after: int | None = None,
    ) -> Shard:
        """Begin a new execution by `node`; returns the shard as it is from now on. The queue begins
        executions itself, see `hotloop.app.tasks.claims`.

        `total_items` is for a task of one shard whose items were counted only now. With `after`
        it is refused when there has been another execution since that one.
        """
        with writing(self._engine) as connection:
            lock_task(connection, ref.task_id)
            if after not in (None, shard_row(connection, ref)["attempt"]):
                raise TaskConflictError(ref.task_id, TAKEN_OVER)
            task = task_row(connection, ref.task_id)
            return begin_shard(connection, task, ref, node, total_items)

    def count_items(self, ref: ShardRef, attempt: int, total_items: int) -> None:
        """By now it is known how many items the task has; it has one shard."""
        with writing(self._engine) as connection:
            current_shard(connection, ref, attempt)
            connection.execute(update(shards).where(*is_shard(ref)).values(count=total_items))
            known = update(tasks).where(tasks.c.task_id == ref.task_id)
            more = (total_items - tasks.c.total_items) * tasks.c.item_bytes
            stored = tasks.c.stored_bytes + more
            connection.execute(known.values(total_items=total_items, stored_bytes=stored))

    def add_results(
        self,
        ref: ShardRef,
        attempt: int,
        chunks: Sequence[Chunk],
        items_processed: int,
        failed_items: int,
        details: JsonObject,
    ) -> None:
        """Store results together with the shard's counts and details so far: all of it, or
        nothing. `chunks` are as `app.tasks.chunks.pack` made them; items that are stored already
        stay as they are. ValueError for items that the shard does not have.
        """
        counts = {"items_processed": items_processed, "failed_items": failed_items}
        with writing(self._engine) as connection:
            before = current_shard(connection, ref, attempt)
            more = {name: tasks.c[name] + count - before[name] for name, count in counts.items()}
            stored = {**counts, "details": dict(details)}
            if items_processed > before["items_processed"]:
                stored |= {"beginnings": 0, "retry_at": None}
            connection.execute(update(shards).where(*is_shard(ref)).values(**stored))
            task = update(tasks).where(tasks.c.task_id == ref.task_id).values(**more)
            connection.execute(task)
            insert_chunks(connection, ref.task_id, chunks, before["start"], before["count"])

    def end(
        self,
        ref: ShardRef,
        attempt: int,
        status: TaskStatus,
        details: JsonObject,
        items_processed: int,
        summarize: Summarize,
        *,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> TaskStatus:
        """End the execution: the shard becomes `completed`, `failed` or `cancelled`. The task
        ends with it when all others are completed, or when this one is not; returns the task's
        state. `details` are those of so many items: when more are stored, those that were stored
        with them stay, for then the answer that they were stored was lost.

        ValueError for another status.
        """
        if status not in FINISHED:
            raise ValueError(f"{status} is not an end")
        error = {"error_code": error_code, "error_message": error_message}
        with writing(self._engine) as connection:
            before = current_shard(connection, ref, attempt)
            known = _details(before, items_processed, details)
            values = {"status": status, "queued_at": None, **known, **error}
            connection.execute(update(shards).where(*is_shard(ref)).values(**values))
            of_task = all_shards(connection, ref.task_id)
            if status is TaskStatus.COMPLETED:
                if any(shard.status is not TaskStatus.COMPLETED for shard in of_task):
                    return TaskStatus.RUNNING
            else:
                end_shards(connection, ref.task_id, TaskStatus.CANCELLED, {})
            ends = {"end_time": utc_now(), "measurements": summarize(of_task), **error}
            move_task(connection, ref.task_id, status, ends)
            if status is TaskStatus.COMPLETED:  # another end may be resumed, which needs them
                forget_inputs(connection, ref.task_id)
            return status

    def give_back(
        self,
        ref: ShardRef,
        attempt: int,
        details: JsonObject,
        items_processed: int,
        node: str | None = None,
        *,
        counts_as: int = 1,
        needs_bytes: int | None = None,
    ) -> None:
        """The execution stops before its end; another goes on from here: one by `node`, or by
        whoever is the first to take it. `details` are those of so many items, as for `end`.

        It counts as so many of the MAX_BEGINNINGS that a shard has without progress: as none when
        its process stops, or lacked something, so that the shard had no part in it. `needs_bytes`
        is the memory that a run of it was found to need.
        """
        with writing(self._engine) as connection:
            before = current_shard(connection, ref, attempt)
            values = {"node": node, **_details(before, items_processed, details)}
            values |= ended_beginning(counts_as)
            if needs_bytes is not None:
                values["needs_bytes"] = needs_bytes
            connection.execute(update(shards).where(*is_shard(ref)).values(**values))

    def cancel(self, task_id: str, summarize: Summarize) -> list[ShardRef]:
        """Cancel a task that has not ended; returns its shards that had not either. From now on
        executions can store nothing.
        """
        with writing(self._engine) as connection:
            lock_task(connection, task_id)
            unfinished = [s.ref for s in all_shards(connection, task_id) if s.status in UNFINISHED]
            end_shards(connection, task_id, TaskStatus.CANCELLED, {})
            measurements = summarize(all_shards(connection, task_id))
            values = {"end_time": utc_now(), "measurements": measurements}
            move_task(connection, task_id, TaskStatus.CANCELLED, values)
        return unfinished

    def resume(self, task_id: str) -> list[ShardRef]:
        """Make a failed or cancelled task pending again; returns the shards to be executed."""
        with writing(self._engine) as connection:
            values = {
                "status": TaskStatus.PENDING,
                "end_time": None,
                "error_code": None,
                "error_message": None,
            }
            if not update_task(connection, task_id, may_become(TaskStatus.PENDING), values):
                text = "it is {status}; only a failed or a cancelled one can be resumed"
                raise conflict(connection, task_id, text)
            task_type = task_row(connection, task_id)["task_type"]
            again = (
                update(shards)
                .where(shards.c.task_id == task_id, shards.c.status != TaskStatus.COMPLETED)
                .values(
                    status=TaskStatus.PENDING,
                    generation=shards.c.generation + 1,
                    queued_at=time.time() if task_type == TaskType.BACKGROUND else None,
                    node=None,
                    error_code=None,
                    error_message=None,
                    beginnings=0,
                    retry_at=None,
                )
            )
            if not connection.execute(again).rowcount:
                raise TaskConflictError(task_id, "its items never came in whole; ask for it anew")
            return [
                s.ref for s in all_shards(connection, task_id) if s.status is TaskStatus.PENDING
            ]

    def of_task(self, task_id: str) -> list[Shard]:
        """All shards, in order; none of a task whose items are still coming in."""
        with reading(self._engine) as connection:
            found = all_shards(connection, task_id)
            if not found:
                task_row(connection, task_id)
        return found

    def is_current(self, ref: ShardRef, attempt: int) -> bool:
        """Whether this execution may still store anything."""
        with reading(self._engine) as connection:
            try:
                check_current(shard_row(connection, ref), attempt)
            except (TaskNotFoundError, TaskConflictError):
                return False
            return True

    def missing(self, ref: ShardRef) -> list[tuple[int, int]]:
        """The ranges (start, count) of the shard's items without a stored result, in order."""
        with reading(self._engine) as connection:
            row = shard_row(connection, ref)
            position, end = row["start"], row["start"] + row["count"]
            stored = (
                select(results.c.start, results.c["count"])
                .where(
                    results.c.task_id == ref.task_id,
                    results.c.start >= position,
                    results.c.start < end,
                )
                .order_by(results.c.start)
            )
            gaps = []
            for start, count in connection.execute(stored):
                if start > position:
                    gaps.append((position, start - position))
                position = start + count
            if position < end:
                gaps.append((position, end - position))
        return gaps


def _details(before: RowMapping, items_processed: int, details: JsonObject) -> dict[str, Any]:
    return {"details": dict(details)} if before["items_processed"] == items_processed else {}
