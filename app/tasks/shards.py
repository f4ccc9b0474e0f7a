"""The shards of tasks: who executes them, how far they are, and what is still missing.

A shard is executed by one process at a time, each time as a new *attempt*. What a process stores
it stores as the attempt that it began: once another has begun, or the task was cancelled, nothing
that it writes is taken any more (fencing). So a frozen process that comes back does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final

from sqlalchemy import Connection, Engine, RowMapping, insert, select, update

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus, TaskType
from app.tasks.chunks import Chunk, result_columns
from app.tasks.engine import reading, writing
from app.tasks.model import FINISHED, UNFINISHED, JsonObject, Shard, ShardRef, may_become, utc_now
from app.tasks.results import insert_chunks
from app.tasks.rows import check_id, conflict, lock_task, move_task, task_row, update_task
from app.tasks.tables import results, shards, tasks

_FIELDS: Final = [shards.c[field.name] for field in fields(Shard)]

TAKEN_OVER: Final = "it has been taken over by a later execution, which goes on alone"

Summarize = Callable[[Sequence[Shard]], JsonObject]
"""Makes a task's measurements out of its shards' details."""


class ShardStore:
    """All methods block, are one transaction each, and raise StoreError when the database cannot
    be used, TaskNotFoundError for a task that is not there, and TaskConflictError when the
    shard's state, or a later execution, does not allow what is asked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, ref: ShardRef, node: str, total_items: int | None = None) -> Shard:
        """Begin a new execution by `node`; returns the shard as it is from now on.

        `total_items` is for a task of one shard whose items were counted only now.
        """
        with writing(self._engine) as connection:
            row = _locked(connection, ref)
            task = task_row(connection, ref.task_id)
            if row["status"] in FINISHED:
                raise TaskConflictError(ref.task_id, f"its shard {ref.shard} is {row['status']}")
            columns = [list(column) for column in result_columns(task["workload"])]
            if task["result_columns"] not in (None, columns):
                text = "its workload has other columns now than its first results; ask for it anew"
                raise TaskConflictError(ref.task_id, text)
            values: dict[str, Any] = {"owner": node, "result_columns": columns}
            if task["start_time"] is None:
                values["start_time"] = utc_now()
            mine: dict[str, Any] = {
                "status": TaskStatus.RUNNING,
                "attempt": row["attempt"] + 1,
                "node": node,
            }
            if total_items is not None:
                values["total_items"] = mine["count"] = total_items
            move_task(connection, ref.task_id, TaskStatus.RUNNING, values)
            connection.execute(update(shards).where(*_is(ref)).values(**mine))
            return _shard(_row(connection, ref))

    def count_items(self, ref: ShardRef, attempt: int, total_items: int) -> None:
        """By now it is known how many items the task has; it has one shard."""
        with writing(self._engine) as connection:
            _mine(connection, ref, attempt)
            connection.execute(update(shards).where(*_is(ref)).values(count=total_items))
            known = update(tasks).where(tasks.c.task_id == ref.task_id)
            connection.execute(known.values(total_items=total_items))

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
            before = _mine(connection, ref, attempt)
            more = {name: tasks.c[name] + count - before[name] for name, count in counts.items()}
            connection.execute(
                update(shards).where(*_is(ref)).values(**counts, details=dict(details))
            )
            task = update(tasks).where(tasks.c.task_id == ref.task_id).values(**more)
            connection.execute(task)
            insert_chunks(connection, ref.task_id, chunks, before["start"], before["count"])

    def end(
        self,
        ref: ShardRef,
        attempt: int,
        status: TaskStatus,
        details: JsonObject,
        summarize: Summarize,
        *,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> TaskStatus:
        """End the execution: the shard becomes `completed`, `failed` or `cancelled`. The task
        ends with it when all others are completed, or when this one is not; returns the task's
        state.

        ValueError for another status.
        """
        if status not in FINISHED:
            raise ValueError(f"{status} is not an end")
        error = {"error_code": error_code, "error_message": error_message}
        with writing(self._engine) as connection:
            _mine(connection, ref, attempt)
            values = {"status": status, "details": dict(details), **error}
            connection.execute(update(shards).where(*_is(ref)).values(**values))
            all_shards = _all(connection, ref.task_id)
            if status is TaskStatus.COMPLETED:
                if any(shard.status is not TaskStatus.COMPLETED for shard in all_shards):
                    return TaskStatus.RUNNING
            else:
                end_shards(connection, ref.task_id, TaskStatus.CANCELLED, {})
            ends = {"end_time": utc_now(), "measurements": summarize(all_shards), **error}
            move_task(connection, ref.task_id, status, ends)
            return status

    def give_back(self, ref: ShardRef, attempt: int, details: JsonObject) -> None:
        """The execution stops before its end; another goes on from here."""
        with writing(self._engine) as connection:
            _mine(connection, ref, attempt)
            values = {"node": None, "details": dict(details)}
            connection.execute(update(shards).where(*_is(ref)).values(**values))

    def cancel(self, task_id: str, summarize: Summarize) -> list[ShardRef]:
        """Cancel a task that has not ended; returns its shards that had not either. From now on
        executions can store nothing.
        """
        with writing(self._engine) as connection:
            lock_task(connection, task_id)
            unfinished = [s.ref for s in _all(connection, task_id) if s.status in UNFINISHED]
            end_shards(connection, task_id, TaskStatus.CANCELLED, {})
            measurements = summarize(_all(connection, task_id))
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
            again = (
                update(shards)
                .where(shards.c.task_id == task_id, shards.c.status != TaskStatus.COMPLETED)
                .values(
                    status=TaskStatus.PENDING,
                    generation=shards.c.generation + 1,
                    node=None,
                    error_code=None,
                    error_message=None,
                )
            )
            if not connection.execute(again).rowcount:
                raise TaskConflictError(task_id, "its items never came in whole; ask for it anew")
            return [s.ref for s in _all(connection, task_id) if s.status is TaskStatus.PENDING]

    def of_task(self, task_id: str) -> list[Shard]:
        """All shards, in order; none of a task whose items are still coming in."""
        with reading(self._engine) as connection:
            found = _all(connection, task_id)
            if not found:
                task_row(connection, task_id)
        return found

    def unfinished(self) -> list[ShardRef]:
        """The shards of background tasks that must still be executed."""
        wanted = (
            select(*_FIELDS)
            .join(tasks, tasks.c.task_id == shards.c.task_id)
            .where(tasks.c.task_type == TaskType.BACKGROUND, shards.c.status.in_(UNFINISHED))
            .order_by(tasks.c.created_at, tasks.c.task_id, shards.c.shard)
        )
        with reading(self._engine) as connection:
            return [_shard(row).ref for row in connection.execute(wanted).mappings()]

    def is_current(self, ref: ShardRef, attempt: int) -> bool:
        """Whether this execution may still store anything."""
        with reading(self._engine) as connection:
            try:
                _check_mine(_row(connection, ref), attempt)
            except (TaskNotFoundError, TaskConflictError):
                return False
            return True

    def missing(self, ref: ShardRef) -> list[tuple[int, int]]:
        """The ranges (start, count) of the shard's items without a stored result, in order."""
        with reading(self._engine) as connection:
            row = _row(connection, ref)
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


def shards_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Shard]]:
    """The shards of some tasks, in order, by the task's id."""
    found: dict[str, list[Shard]] = {task_id: [] for task_id in task_ids}
    wanted = select(*_FIELDS).where(shards.c.task_id.in_(task_ids)).order_by(shards.c.shard)
    for row in connection.execute(wanted).mappings():
        found[row["task_id"]].append(_shard(row))
    return found


def insert_shards(connection: Connection, task_id: str, counts: Sequence[int]) -> None:
    """The shards of a new task, of so many items one after another."""
    start = 0
    for number, count in enumerate(counts):
        shard = Shard(task_id=task_id, shard=number, start=start, count=count)
        values = {field.name: getattr(shard, field.name) for field in fields(shard)}
        connection.execute(insert(shards).values(**values))
        start += count


def end_shards(
    connection: Connection, task_id: str, status: TaskStatus, error: dict[str, Any]
) -> None:
    """End all shards of a task that have not ended."""
    unfinished = shards.c.task_id == task_id, shards.c.status.in_(UNFINISHED)
    connection.execute(update(shards).where(*unfinished).values(status=status, **error))


def _is(ref: ShardRef) -> tuple[Any, ...]:
    return (shards.c.task_id == ref.task_id, shards.c.shard == ref.shard)


def _row(connection: Connection, ref: ShardRef) -> RowMapping:
    """The shard's row, of this generation."""
    check_id(ref.task_id)
    row = connection.execute(select(*_FIELDS).where(*_is(ref))).mappings().first()
    if row is None:
        raise TaskNotFoundError(ref.task_id)
    if row["generation"] != ref.generation:
        raise TaskConflictError(ref.task_id, TAKEN_OVER)
    return row


def _locked(connection: Connection, ref: ShardRef) -> RowMapping:
    """The shard's row. Until the transaction ends, the task is ours: that all who write lock the
    task first, and then its shards, keeps them from waiting for each other in a circle.
    """
    lock_task(connection, ref.task_id)
    return _row(connection, ref)


def _mine(connection: Connection, ref: ShardRef, attempt: int) -> RowMapping:
    """The shard's row, locked, if this execution is the one that may write."""
    row = _locked(connection, ref)
    _check_mine(row, attempt)
    return row


def _check_mine(row: RowMapping, attempt: int) -> None:
    if row["attempt"] != attempt:
        raise TaskConflictError(row["task_id"], TAKEN_OVER)
    if row["status"] is not TaskStatus.RUNNING:
        text = f"it is {row['status']}; results need a running task"
        raise TaskConflictError(row["task_id"], text)


def _all(connection: Connection, task_id: str) -> list[Shard]:
    check_id(task_id)
    wanted = select(*_FIELDS).where(shards.c.task_id == task_id).order_by(shards.c.shard)
    return [_shard(row) for row in connection.execute(wanted).mappings()]


def _shard(row: RowMapping) -> Shard:
    return Shard(**row)
