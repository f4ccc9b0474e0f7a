"""Statements on the shards of a task, within a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, insert, select, update

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.chunks import result_columns
from app.tasks.model import FINISHED, UNFINISHED, Shard, ShardRef, utc_now
from app.tasks.rows import check_id, lock_task, move_task
from app.tasks.tables import shards, tasks

_NAMES: Final = [field.name for field in fields(Shard)]
_NEW_SHARDS: Final = insert(shards)
SHARD_FIELDS: Final = [shards.c[name] for name in _NAMES]

TAKEN_OVER: Final = "it has been taken over by a later execution, which goes on alone"


def shards_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Shard]]:
    """The shards of some tasks, in order, by the task's id."""
    found: dict[str, list[Shard]] = {task_id: [] for task_id in task_ids}
    wanted = select(*SHARD_FIELDS).where(shards.c.task_id.in_(task_ids)).order_by(shards.c.shard)
    for row in connection.execute(wanted).mappings():
        found[row["task_id"]].append(to_shard(row))
    return found


def insert_shards(
    connection: Connection, task_id: str, counts: Sequence[int], queued_at: float | None
) -> list[Shard]:
    """The shards of a new task, of so many items one after another, at a place in the queue;
    None for those that are not queued.
    """
    starts = accumulate(counts, initial=0)
    made = [
        Shard(task_id=task_id, shard=number, start=start, count=count)
        for number, (start, count) in enumerate(zip(starts, counts, strict=False))
    ]
    rows = [
        {name: getattr(shard, name) for name in _NAMES} | {"queued_at": queued_at} for shard in made
    ]
    if rows:
        connection.execute(_NEW_SHARDS, rows)
    return made


def begin_shard(
    connection: Connection,
    task: RowMapping,
    ref: ShardRef,
    node: str,
    total_items: int | None = None,
) -> Shard:
    """`ShardStore.begin` within a transaction of the caller's, who has locked the task."""
    row = shard_row(connection, ref)
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
        more = (total_items - tasks.c.total_items) * tasks.c.item_bytes
        values["stored_bytes"] = tasks.c.stored_bytes + more
    move_task(connection, ref.task_id, TaskStatus.RUNNING, values)
    connection.execute(update(shards).where(*is_shard(ref)).values(**mine))
    return replace(to_shard(row), **mine)


def end_shards(
    connection: Connection, task_id: str, status: TaskStatus, error: dict[str, Any]
) -> None:
    """End all shards of a task that have not ended."""
    unfinished = shards.c.task_id == task_id, shards.c.status.in_(UNFINISHED)
    ended = {"status": status, "queued_at": None, **error}
    connection.execute(update(shards).where(*unfinished).values(**ended))


def is_shard(ref: ShardRef) -> tuple[Any, ...]:
    return (shards.c.task_id == ref.task_id, shards.c.shard == ref.shard)


def shard_row(connection: Connection, ref: ShardRef) -> RowMapping:
    """The shard's row, of this generation."""
    check_id(ref.task_id)
    row = connection.execute(select(*SHARD_FIELDS).where(*is_shard(ref))).mappings().first()
    if row is None:
        raise TaskNotFoundError(ref.task_id)
    if row["generation"] != ref.generation:
        raise TaskConflictError(ref.task_id, TAKEN_OVER)
    return row


def locked_shard(connection: Connection, ref: ShardRef) -> RowMapping:
    """The shard's row. Until the transaction ends, the task is ours: that all who write lock the
    task first, and then its shards, keeps them from waiting for each other in a circle.
    """
    lock_task(connection, ref.task_id)
    return shard_row(connection, ref)


def current_shard(connection: Connection, ref: ShardRef, attempt: int) -> RowMapping:
    """The shard's row, locked, if this execution is the one that may write."""
    row = locked_shard(connection, ref)
    check_current(row, attempt)
    return row


def check_current(row: RowMapping, attempt: int) -> None:
    if row["attempt"] != attempt:
        raise TaskConflictError(row["task_id"], TAKEN_OVER)
    if row["status"] is not TaskStatus.RUNNING:
        text = f"it is {row['status']}; results need a running task"
        raise TaskConflictError(row["task_id"], text)


def all_shards(connection: Connection, task_id: str) -> list[Shard]:
    check_id(task_id)
    wanted = select(*SHARD_FIELDS).where(shards.c.task_id == task_id).order_by(shards.c.shard)
    return [to_shard(row) for row in connection.execute(wanted).mappings()]


def to_shard(row: RowMapping) -> Shard:
    return Shard(**row)
