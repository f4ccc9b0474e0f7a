"""Storing tasks that are over: many of them in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, insert
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.engine import writing
from hotloop.app.errors import TaskConflictError
from hotloop.app.tasks.chunks import Chunk, ResultColumns
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.rows import shard_values, task_values
from hotloop.app.tasks.tables import results, shards, tasks

_NEW_TASKS = insert(tasks)
_NEW_SHARDS = insert(shards)
_NEW_CHUNKS = insert(results)


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """A task that is over, with its only shard and all its results."""

    task: Task
    shard: Shard
    columns: ResultColumns
    chunks: Sequence[Chunk]


def store_finished(engine: Engine, finished: Iterable[FinishedTask]) -> None:
    """Store tasks that are over: all of them, or none. Blocks.

    Raises StoreError, and IntegrityError if one of their ids is taken.
    """
    with writing(engine) as connection:
        _insert(connection, list(finished))


def store_each(engine: Engine, finished: Sequence[FinishedTask]) -> list[Exception | None]:
    """Store tasks that are over, in one transaction if they can be stored together. Return the
    reason why each is not stored, None for one that is. Blocks.
    """
    try:
        store_finished(engine, finished)
    except IntegrityError as error:
        if len(finished) == 1:
            conflict = TaskConflictError(finished[0].task.task_id, "there is such a task already")
            conflict.__cause__ = error
            return [conflict]
        return [reason for each in finished for reason in store_each(engine, [each])]
    except Exception as error:
        return [error] * len(finished)
    return [None] * len(finished)


def _insert(connection: Connection, finished: Sequence[FinishedTask]) -> None:
    connection.execute(
        _NEW_TASKS,
        [
            task_values(each.task) | {"result_columns": [list(c) for c in each.columns]}
            for each in finished
        ],
    )
    connection.execute(_NEW_SHARDS, [shard_values(each.shard) for each in finished])
    chunks = [
        {"task_id": each.task.task_id, **asdict(chunk)}
        for each in finished
        for chunk in each.chunks
    ]
    if chunks:
        connection.execute(_NEW_CHUNKS, chunks)
