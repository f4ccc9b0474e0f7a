"""Statements on the shards of a task, within a transaction of the caller's."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, case, insert, select, update

from hotloop.app.errors import TaskConflictError, TaskNotFoundError, TooManyBeginningsError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks.chunks import result_columns
from hotloop.app.tasks.model import FINISHED, UNFINISHED, Shard, ShardRef, Task, utc_now
from hotloop.app.tasks.needs import Needs, needs_of
from hotloop.app.tasks.rows import check_id, lock_task, move_task
from hotloop.app.tasks.tables import shards, tasks

_NAMES: Final = [field.name for field in fields(Shard)]
_NEW_SHARDS: Final = insert(shards)
SHARD_FIELDS: Final = [shards.c[name] for name in _NAMES]

MAX_BEGINNINGS: Final = 20
"""Executions of a shard that may begin without any progress; the next one ends its task."""

FAILED_BEGINNING: Final = 5
"""An execution that was seen to fail counts as so many beginnings: four of these are enough. The
end of others is unknown, as their process is gone, perhaps for a reason of its own."""

FREE_BEGINNINGS: Final = 2
"""So many executions without progress begin at once; a pause comes before each further one."""
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Between beginnings without progress, doubled from one to the next."""

TAKEN_OVER: Final = "it has been taken over by a later execution, which goes on alone"


def shards_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Shard]]:
    """The shards of some tasks, in order, by the task's id."""
    found: dict[str, list[Shard]] = {task_id: [] for task_id in task_ids}
    wanted = select(*SHARD_FIELDS).where(shards.c.task_id.in_(task_ids)).order_by(shards.c.shard)
    for row in connection.execute(wanted).mappings():
        found[row["task_id"]].append(to_shard(row))
    return found


def task_needs(task: Task) -> Needs | None:
    """What a node must be able to do for a background task; None for a synchronous one, which its
    own process executes.
    """
    if task.task_type != TaskType.BACKGROUND:
        return None
    return needs_of(task.kind, task.workload, task.kernel, task.strategy, task.spec)


def insert_shards(
    connection: Connection,
    task_id: str,
    counts: Sequence[int],
    queued_at: float | None,
    needs: Needs | None = None,
) -> list[Shard]:
    """The shards of a new task, of so many items one after another, at a place in the queue;
    None for those that are not queued. `needs` are those of each.
    """
    starts = accumulate(counts, initial=0)
    text, size = (None, None) if needs is None else (needs.text, needs.memory_bytes)
    made = [
        Shard(task_id=task_id, shard=number, start=start, count=count, needs=text, needs_bytes=size)
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
    if row["beginnings"] >= MAX_BEGINNINGS:
        raise TooManyBeginningsError(ref.task_id, ref.shard, row["attempt"])
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
        "beginnings": row["beginnings"] + 1,
    }
    if total_items is not None:
        values["total_items"] = mine["count"] = total_items
        more = (total_items - tasks.c.total_items) * tasks.c.item_bytes
        values["stored_bytes"] = tasks.c.stored_bytes + more
    move_task(connection, ref.task_id, TaskStatus.RUNNING, values)
    pause = {"retry_at": _retry_at(mine["beginnings"])}
    connection.execute(update(shards).where(*is_shard(ref)).values(**mine, **pause))
    return replace(to_shard(row), **mine)


def _retry_at(beginnings: int) -> float | None:
    """When a shard may be claimed again if this execution makes no progress. By chance earlier or
    later: those that went down together with one of them shall not begin together again.
    """
    if beginnings <= FREE_BEGINNINGS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2.0 ** (beginnings - FREE_BEGINNINGS - 1)
    return time.time() + min(pause, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)


def ended_beginning(counts_as: int) -> dict[str, Any]:
    """The columns of a shard whose last execution did not end it, to be counted as so many
    beginnings: 0 when that was not the shard's own doing.
    """
    counted = shards.c.beginnings + counts_as - 1
    values: dict[str, Any] = {"beginnings": case((counted > 0, counted), else_=0)}
    return values if counts_as else {**values, "retry_at": None}


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
    values = dict(row)
    if not isinstance(values["details"], dict):
        values["details"] = None
    return Shard(**values)
