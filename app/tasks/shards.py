"""The executions of shards: their beginning, progress, end, and the items that are missing.

One process at a time executes a shard, each time as a new *attempt*, and writes as the attempt that
it began. Once another attempt has begun, or the task was cancelled, everything that it writes is
refused (fencing). So a frozen process that comes back does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Engine, RowMapping, bindparam, update

from hotloop.app.database.engine import reading, writing
from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.records import JsonObject
from hotloop.app.tasks import rows
from hotloop.app.tasks.chunks import Chunk
from hotloop.app.tasks.folder import forget_inputs
from hotloop.app.tasks.model import FINISHED, UNFINISHED, Shard, ShardRef, may_become, utc_now
from hotloop.app.tasks.results import insert_chunks, stored_ranges
from hotloop.app.tasks.tables import shards, tasks
from hotloop.app.tasks.webhooks import task_goes_on

Summarize = Callable[[Sequence[Shard]], JsonObject]
"""Function that makes a task's measurements from the details of its shards."""


_COUNTED: Final = (
    update(tasks)
    .where(tasks.c.task_id == bindparam("of_task"))
    .values(
        items_processed=tasks.c.items_processed + bindparam("more_items_processed"),
        failed_items=tasks.c.failed_items + bindparam("more_failed_items"),
    )
)


class ShardStore:
    """Shards in the store. All methods block, and are one transaction each. They raise StoreError
    when the database cannot be used, TaskNotFoundError for an unknown task, and TaskConflictError
    when the shard's state, or a later execution, does not allow the call.
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
        """Begin a new execution by `node`, and return the shard as it is then. The queue begins
        executions itself, see `hotloop.app.tasks.claims`.

        `total_items` is for a task of one shard whose items were counted only now. With `after`,
        TaskConflictError unless that attempt was the last one.
        """
        with writing(self._engine) as connection:
            rows.lock_task(connection, ref.task_id)
            if after not in (None, rows.shard_row(connection, ref)["attempt"]):
                raise TaskConflictError(ref.task_id, rows.TAKEN_OVER)
            task = rows.task_row(connection, ref.task_id)
            return rows.begin_shard(connection, task, ref, node, total_items)

    def count_items(self, ref: ShardRef, attempt: int, total_items: int) -> None:
        """Store the number of items of a task of one shard, now that it is known."""
        with writing(self._engine) as connection:
            rows.current_shard(connection, ref, attempt)
            rows.update_shard(connection, ref, {"count": total_items})
            known = update(tasks).where(tasks.c.task_id == ref.task_id)
            connection.execute(known.values(rows.counted_items(total_items)))

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
        nothing. `chunks` come from `app.tasks.chunks.pack`; items that are stored already stay as
        they are. ValueError for items that are not the shard's.
        """
        counts = {"items_processed": items_processed, "failed_items": failed_items}
        with writing(self._engine) as connection:
            before = rows.current_shard(connection, ref, attempt)
            more = {f"more_{name}": count - before[name] for name, count in counts.items()}
            stored = {**counts, "details": dict(details)}
            if items_processed > before["items_processed"]:
                stored |= {"beginnings": 0, "retry_at": None}
            rows.update_shard(connection, ref, stored)
            connection.execute(_COUNTED, {"of_task": ref.task_id, **more})
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
        """End the execution: the shard becomes `completed`, `failed` or `cancelled`. The task ends
        with it when all other shards are completed, or this one is not; returns the task's state.
        `details` are those of `items_processed` items. When more items are stored, because the
        answer that they were stored was lost, the details that were stored with them stay.

        ValueError for another status.
        """
        if status not in FINISHED:
            raise ValueError(f"{status} is not an end")
        error = {"error_code": error_code, "error_message": error_message}
        with writing(self._engine) as connection:
            before = rows.current_shard(connection, ref, attempt)
            known = _details(before, items_processed, details)
            ended = {"status": status, "queued_at": None, **known, **error}
            rows.update_shard(connection, ref, ended)
            of_task = rows.all_shards(connection, ref.task_id)
            if status is TaskStatus.COMPLETED:
                if any(shard.status is not TaskStatus.COMPLETED for shard in of_task):
                    return TaskStatus.RUNNING
            else:
                rows.end_shards(connection, ref.task_id, TaskStatus.CANCELLED, {})
            ends = {"end_time": utc_now(), "measurements": summarize(of_task), **error}
            rows.move_task(connection, ref.task_id, status, ends)
            failed = any(shard.failed_items for shard in of_task)
            if status is TaskStatus.COMPLETED and not failed:  # else they may be needed again
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
        """Stop the execution before its end. Another one goes on from here, by `node`, or by the
        first node that claims it. `details` and `items_processed` are as for `end`.

        It counts as `counts_as` of the MAX_BEGINNINGS that a shard has without progress; 0 when the
        reason lies with the process and not with the shard. `needs_bytes` is the memory that a run
        of it was found to need.
        """
        with writing(self._engine) as connection:
            before = rows.current_shard(connection, ref, attempt)
            values = {"node": node, **_details(before, items_processed, details)}
            values |= rows.ended_beginning(counts_as)
            if needs_bytes is not None:
                values["needs_bytes"] = needs_bytes
            rows.update_shard(connection, ref, values)

    def cancel(self, task_id: str, summarize: Summarize) -> list[ShardRef]:
        """Cancel an unfinished task, and return its unfinished shards. From then on executions of
        it can store nothing.
        """
        with writing(self._engine) as connection:
            rows.lock_task(connection, task_id)
            before = rows.all_shards(connection, task_id)
            rows.end_shards(connection, task_id, TaskStatus.CANCELLED, {})
            measurements = summarize(rows.all_shards(connection, task_id))
            values = {"end_time": utc_now(), "measurements": measurements}
            rows.move_task(connection, task_id, TaskStatus.CANCELLED, values)
        return [shard.ref for shard in before if shard.status in UNFINISHED]

    def resume(self, task_id: str) -> list[ShardRef]:
        """Make a failed or cancelled task pending again; returns the shards to be executed."""
        again: dict[str, Any] = {
            "status": TaskStatus.PENDING,
            "error_code": None,
            "error_message": None,
        }
        with writing(self._engine) as connection:
            values = {**again, "end_time": None}
            if not rows.update_task(connection, task_id, may_become(TaskStatus.PENDING), values):
                text = "it is {status}; only a failed or cancelled task can be resumed"
                raise rows.conflict(connection, task_id, text)
            is_queued = rows.task_row(connection, task_id)["task_type"] == TaskType.BACKGROUND
            unended = shards.c.task_id == task_id, shards.c.status != TaskStatus.COMPLETED
            values = {
                **again,
                "generation": shards.c.generation + 1,
                "queued_at": time.time() if is_queued else None,
                "node": None,
                "beginnings": 0,
                "retry_at": None,
            }
            reset = update(shards).where(*unended).values(**values)
            if not connection.execute(reset).rowcount:
                raise TaskConflictError(task_id, "its items are incomplete; send the request again")
            of_task = rows.all_shards(connection, task_id)
            task_goes_on(connection, task_id)
        return [shard.ref for shard in of_task if shard.status is TaskStatus.PENDING]

    def of_task(self, task_id: str) -> list[Shard]:
        """Return all shards, in order; none for a task whose items are still being received."""
        with reading(self._engine) as connection:
            found = rows.all_shards(connection, task_id)
            if not found:
                rows.task_row(connection, task_id)
        return found

    def is_current(self, ref: ShardRef, attempt: int) -> bool:
        """Return True if this execution may still store results."""
        with reading(self._engine) as connection:
            try:
                rows.check_current(rows.shard_row(connection, ref), attempt)
            except (TaskNotFoundError, TaskConflictError):
                return False
            return True

    def missing(self, ref: ShardRef) -> list[tuple[int, int]]:
        """Return the ranges (start, count) of the shard's items without a stored result."""
        with reading(self._engine) as connection:
            row = rows.shard_row(connection, ref)
            position, end = row["start"], row["start"] + row["count"]
            gaps = []
            for start, count in stored_ranges(connection, ref.task_id, position, end):
                if start > position:
                    gaps.append((position, start - position))
                position = start + count
            if position < end:
                gaps.append((position, end - position))
        return gaps


def _details(before: RowMapping, items_processed: int, details: JsonObject) -> dict[str, Any]:
    return {"details": dict(details)} if before["items_processed"] == items_processed else {}
