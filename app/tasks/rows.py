"""Statements on the rows of tasks and shards, each within a transaction of the caller's.

Every writer locks the task's row first and its shards' rows after it, so that two writers never
wait for each other in a circle.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    Connection,
    RowMapping,
    Select,
    String,
    Update,
    bindparam,
    case,
    insert,
    or_,
    select,
    update,
)

from hotloop.app.errors import TaskConflictError, TaskNotFoundError, TooManyBeginningsError
from hotloop.app.names import TaskStatus, TaskType, is_task_id
from hotloop.app.tasks.chunks import result_columns
from hotloop.app.tasks.model import FINISHED, UNFINISHED, Shard, ShardRef, Task, may_become, utc_now
from hotloop.app.tasks.needs import Needs, needs_of
from hotloop.app.tasks.tables import shards, tasks, webhooks

# Statements that are used often are made once: making them takes longer than executing them.
_OF_TASK: Final = bindparam("of_task", type_=String(64))
_TASK: Final = select(tasks).where(tasks.c.task_id == _OF_TASK)
_LOCKED_TASK: Final = select(tasks.c.task_id).where(tasks.c.task_id == _OF_TASK).with_for_update()
_WEBHOOK_IS_DUE: Final = (
    update(webhooks).where(webhooks.c.task_id == _OF_TASK).values(next_at=bindparam("now"))
)

TASK_FIELDS: Final = [tasks.c[field.name] for field in fields(Task)]


_RESULTS: Final = tasks.c.items_processed * tasks.c.item_bytes
_MISSING: Final = (tasks.c.total_items - tasks.c.items_processed) * tasks.c.item_bytes
# The input of a synchronous task is removed when the task ends, as it cannot be resumed.
_RESUMABLE: Final = {
    "stored_bytes": case(
        (tasks.c.task_type == TaskType.SYNCHRONOUS, _RESULTS),
        else_=tasks.c.stored_bytes - _MISSING,
    )
}
# That of a background task stays as long as items have failed, which may be tried again.
_COMPLETED: Final = {
    "stored_bytes": case(
        (or_(tasks.c.task_type == TaskType.SYNCHRONOUS, tasks.c.failed_items == 0), _RESULTS),
        else_=tasks.c.stored_bytes - _MISSING,
    )
}
_STORED: Final[dict[TaskStatus, dict[str, Any]]] = {
    TaskStatus.COMPLETED: _COMPLETED,
    TaskStatus.FAILED: _RESUMABLE,
    TaskStatus.CANCELLED: _RESUMABLE,
    TaskStatus.PENDING: {"stored_bytes": tasks.c.stored_bytes + _MISSING},
}
"""The change of `stored_bytes` when a task moves to a state."""


def to_task(row: RowMapping) -> Task:
    """Make the task from a row. A spec that is not a JSON object is read as empty."""
    values = {column.name: row[column.name] for column in TASK_FIELDS}
    if not isinstance(values["spec"], dict):
        values["spec"] = {}
    if not isinstance(values["measurements"], dict):
        values["measurements"] = None
    return Task(**values)


def task_values(task: Task) -> dict[str, Any]:
    """Return the columns of a task's row."""
    return {column.name: getattr(task, column.name) for column in TASK_FIELDS}


def read_tasks(connection: Connection, wanted: Select[Any]) -> list[Task]:
    """Return the tasks of a selection of TASK_FIELDS."""
    return [to_task(row) for row in connection.execute(wanted).mappings()]


def task_row(connection: Connection, task_id: str) -> RowMapping:
    """Return all columns of the task. Raises TaskNotFoundError."""
    check_id(task_id)
    row = connection.execute(_TASK, {"of_task": task_id}).mappings().first()
    if row is None:
        raise TaskNotFoundError(task_id)
    return row


def lock_task(connection: Connection, task_id: str) -> None:
    """Keep other transactions from writing to the task and its shards until this one ends.

    Raises TaskNotFoundError.
    """
    check_id(task_id)
    if connection.scalar(_LOCKED_TASK, {"of_task": task_id}) is None:
        raise TaskNotFoundError(task_id)


def update_task(
    connection: Connection,
    task_id: str,
    statuses: Iterable[TaskStatus],
    values: dict[str, Any],
) -> bool:
    """Change the task if it is in one of `statuses`, and tell whether it was. Its `stored_bytes`
    are counted anew when it ends, or becomes pending again. Its webhook is due once it ends.
    """
    check_id(task_id)
    given = {n: v for n, v in values.items() if not isinstance(v, ClauseElement)}
    computed = {n: v for n, v in values.items() if n not in given}
    change = _task_update(frozenset(statuses), frozenset(given), values.get("status"))
    if computed:
        change = change.values(**computed)
    asked = {f"new_{name}": value for name, value in given.items()}
    if connection.execute(change, {"of_task": task_id, **asked}).rowcount != 1:
        return False
    if values.get("end_time") is not None:
        connection.execute(_WEBHOOK_IS_DUE, {"of_task": task_id, "now": time.time()})
    return True


@lru_cache
def _task_update(
    statuses: frozenset[TaskStatus], names: frozenset[str], status: TaskStatus | None
) -> Update:
    """Return the statement that changes some columns of a task in one of `statuses` to given
    values, and its `stored_bytes` as fits to its new status.
    """
    given = {name: bindparam(f"new_{name}", type_=tasks.c[name].type) for name in names}
    stored = {} if status is None else _STORED.get(status, {})
    change = update(tasks).where(tasks.c.task_id == _OF_TASK, tasks.c.status.in_(statuses))
    return change.values(**{**stored, **given})


def move_task(
    connection: Connection, task_id: str, status: TaskStatus, values: dict[str, Any]
) -> None:
    """Move the task as MOVES allows. Raises TaskNotFoundError, TaskConflictError."""
    if not update_task(connection, task_id, may_become(status), {"status": status, **values}):
        raise conflict(connection, task_id, f"it is {{status}} and cannot become {status}")


def conflict(connection: Connection, task_id: str, text: str) -> TaskConflictError:
    """Return the error for a task that could not be changed: `text` with its state filled in.

    Raises TaskNotFoundError.
    """
    return TaskConflictError(task_id, text.format(status=task_row(connection, task_id)["status"]))


def check_id(task_id: str) -> str:
    """Return the id. Raises TaskNotFoundError for text that cannot be an id: the database might
    fail on it, and it would be unsafe as a file's name.
    """
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id)
    return task_id


_NEW_SHARDS: Final = insert(shards)
SHARD_FIELDS: Final = [shards.c[field.name] for field in fields(Shard)]
_IS_SHARD: Final = shards.c.task_id == _OF_TASK, shards.c.shard == bindparam("number")
_SHARD: Final = select(*SHARD_FIELDS).where(*_IS_SHARD)
_SHARDS: Final = select(*SHARD_FIELDS).where(shards.c.task_id == _OF_TASK).order_by(shards.c.shard)


@lru_cache
def _shard_update(names: frozenset[str]) -> Update:
    """Return the statement that changes some columns of a shard's row to given values."""
    given = {name: bindparam(f"new_{name}", type_=shards.c[name].type) for name in names}
    return update(shards).where(*_IS_SHARD).values(given)


MAX_BEGINNINGS: Final = 20
"""Executions of a shard that may begin without any progress; the next one fails its task."""

FAILED_BEGINNING: Final = 5
"""Beginnings that an execution counts as when it is known to have failed, so four failures are
enough. Other executions count once: their process is gone, perhaps for a reason of its own."""

FREE_BEGINNINGS: Final = 2
"""Executions without progress that begin without a pause; later ones wait."""
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Longest pause before a beginning without progress; it doubles with each beginning."""

TAKEN_OVER: Final = "it has been taken over by a later execution, which goes on alone"


def shards_of(connection: Connection, task_ids: Sequence[str]) -> dict[str, list[Shard]]:
    """Return the shards of some tasks, in order, by the task's id."""
    found: dict[str, list[Shard]] = {task_id: [] for task_id in task_ids}
    wanted = select(*SHARD_FIELDS).where(shards.c.task_id.in_(task_ids)).order_by(shards.c.shard)
    for row in connection.execute(wanted).mappings():
        found[row["task_id"]].append(to_shard(row))
    return found


def task_needs(task: Task) -> Needs | None:
    """Return the needs of a background task; None for a synchronous task, which the process that
    received it executes.
    """
    if task.task_type != TaskType.BACKGROUND:
        return None
    return needs_of(task.kind, task.workload, task.kernel, task.strategy, task.spec)


def insert_shards(
    connection: Connection, task: Task, counts: Sequence[int], queued_at: float | None
) -> list[Shard]:
    """Insert the shards of a task, with `counts` items one after another, and return them.

    `queued_at` is their place in the queue; None does not queue them.
    """
    starts = accumulate(counts, initial=0)
    known: dict[str, Any] = {"rank": task.rank}
    if (needs := task_needs(task)) is not None:
        known |= {"needs": needs.text, "needs_bytes": needs.memory_bytes}
    made = [
        Shard(task_id=task.task_id, shard=number, start=start, count=count, **known)
        for number, (start, count) in enumerate(zip(starts, counts, strict=False))
    ]
    rows = [shard_values(shard, queued_at) for shard in made]
    if rows:
        connection.execute(_NEW_SHARDS, rows)
    return made


def shard_values(shard: Shard, queued_at: float | None = None) -> dict[str, Any]:
    """Return the columns of a shard's row."""
    values = {column.name: getattr(shard, column.name) for column in SHARD_FIELDS}
    return values | {"queued_at": queued_at, "retry_at": None}


def begin_shard(
    connection: Connection,
    task: RowMapping,
    ref: ShardRef,
    node: str,
    total_items: int | None = None,
) -> Shard:
    """Do what `ShardStore.begin` says; the caller has locked the task, whose row is `task`."""
    row = shard_row(connection, ref)
    if row["status"] in FINISHED:
        raise TaskConflictError(ref.task_id, f"its shard {ref.shard} is {row['status']}")
    if row["beginnings"] >= MAX_BEGINNINGS:
        raise TooManyBeginningsError(ref.task_id, ref.shard, row["attempt"])
    columns = [list(column) for column in result_columns(task["workload"])]
    if task["result_columns"] not in (None, columns):
        text = "its workload's columns have changed since its first results; send the request again"
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
        mine["count"] = total_items
        values |= counted_items(total_items)
    move_task(connection, ref.task_id, TaskStatus.RUNNING, values)
    pause = {"retry_at": _retry_at(mine["beginnings"])}
    update_shard(connection, ref, mine | pause)
    return replace(to_shard(row), **mine)


def counted_items(total_items: int) -> dict[str, Any]:
    """Return the changed columns of a task whose number of items has become known."""
    more = (total_items - tasks.c.total_items) * tasks.c.item_bytes
    return {"total_items": total_items, "stored_bytes": tasks.c.stored_bytes + more}


def _retry_at(beginnings: int) -> float | None:
    """Return the time from which a shard may be claimed again if this execution makes no progress.

    It is partly random, so that shards that failed together do not begin together again.
    """
    if beginnings <= FREE_BEGINNINGS:
        return None
    pause = FIRST_PAUSE_SECONDS * 2.0 ** (beginnings - FREE_BEGINNINGS - 1)
    return time.time() + min(pause, LONGEST_PAUSE_SECONDS) * random.uniform(0.5, 1.0)


def ended_beginning(counts_as: int) -> dict[str, Any]:
    """Return the changed columns of a shard whose last execution did not end it. It counts as
    `counts_as` beginnings; 0 if the shard was not the reason.
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
    """Return the condition for the shard's row, of any generation."""
    return (shards.c.task_id == ref.task_id, shards.c.shard == ref.shard)


def update_shard(connection: Connection, ref: ShardRef, values: dict[str, Any]) -> None:
    """Change the shard's row."""
    if any(isinstance(value, ClauseElement) for value in values.values()):
        connection.execute(update(shards).where(*is_shard(ref)).values(**values))
        return
    given = {f"new_{name}": value for name, value in values.items()}
    place = {"of_task": ref.task_id, "number": ref.shard}
    connection.execute(_shard_update(frozenset(values)), given | place)


def shard_row(connection: Connection, ref: ShardRef) -> RowMapping:
    """Return the shard's row. Raises TaskNotFoundError, TaskConflictError for other generations."""
    check_id(ref.task_id)
    asked = {"of_task": ref.task_id, "number": ref.shard}
    row = connection.execute(_SHARD, asked).mappings().first()
    if row is None:
        raise TaskNotFoundError(ref.task_id)
    if row["generation"] != ref.generation:
        raise TaskConflictError(ref.task_id, TAKEN_OVER)
    return row


def current_shard(connection: Connection, ref: ShardRef, attempt: int) -> RowMapping:
    """The shard's row, with its task locked. Raises TaskConflictError for an execution that may
    not write any more.
    """
    lock_task(connection, ref.task_id)
    row = shard_row(connection, ref)
    check_current(row, attempt)
    return row


def check_current(row: RowMapping, attempt: int) -> None:
    """Raise TaskConflictError unless this execution is the one that may write."""
    if row["attempt"] != attempt:
        raise TaskConflictError(row["task_id"], TAKEN_OVER)
    if row["status"] is not TaskStatus.RUNNING:
        text = f"it is {row['status']}; results need a running task"
        raise TaskConflictError(row["task_id"], text)


def all_shards(connection: Connection, task_id: str) -> list[Shard]:
    """The shards of a task, in order."""
    found = connection.execute(_SHARDS, {"of_task": check_id(task_id)})
    return [to_shard(row) for row in found.mappings()]


def to_shard(row: RowMapping) -> Shard:
    """Make the shard of a row. Details that are no JSON object are read as None."""
    values = dict(row)
    if not isinstance(values["details"], dict):
        values["details"] = None
    return Shard(**values)
