"""Storing tasks that are over: many of them in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Engine, Table
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.statements import (
    MOST_ROWS,
    Row,
    RowStatements,
    insertion,
    parameter_of,
)
from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.records import JsonObject
from hotloop.app.tasks.chunks import Chunk, ResultColumns
from hotloop.app.tasks.model import Shard, Task, new_task_id
from hotloop.app.tasks.rows import shard_values, task_values
from hotloop.app.tasks.tables import results, shards, tasks

_TABLES: Final = (tasks, shards, results)


class FinishedTask(NamedTuple):
    """A task that is over, with its only shard and all its results."""

    task_id: str
    values: Row
    """All columns of the three rows, as `insertion` names them."""


class Recorder:
    """Makes and stores tasks that are over."""

    def __init__(self, engine: Engine) -> None:
        self._insertion = RowStatements(engine, "finished", list(map(insertion, _TABLES)))

    def template(self, task: Task, columns: ResultColumns) -> Row:
        """Return what completed tasks like this one, of one shard that the owner executes at once,
        have in common. `columns` are those of their results.
        """
        shard = Shard(
            task_id=task.task_id,
            shard=0,
            start=0,
            count=0,
            status=TaskStatus.COMPLETED,
            attempt=1,
            node=task.owner,
        )
        stored = [list(each) for each in columns]
        of_task = task_values(task) | {"status": TaskStatus.COMPLETED, "result_columns": stored}
        return self._insertion.converted(
            _named(tasks, of_task) | _named(shards, shard_values(shard))
        )

    def finished(
        self,
        template: Row,
        begun: datetime,
        ended: datetime,
        client: str | None,
        chunk: Chunk,
        measured: JsonObject,
    ) -> FinishedTask:
        """Return a new task like the template, with all its results."""
        task_id = new_task_id()
        converted = self._insertion.converted(
            {"tasks_created_at": begun, "tasks_end_time": ended, "tasks_measurements": measured}
        )
        values: Row = {
            **template,
            **converted,
            "tasks_task_id": task_id,
            "tasks_start_time": converted["tasks_created_at"],
            "tasks_total_items": chunk.count,
            "tasks_items_processed": chunk.count,
            "tasks_failed_items": chunk.failed,
            "tasks_client": client,
            "tasks_stored_bytes": chunk.count * template["tasks_item_bytes"],
            "shards_task_id": task_id,
            "shards_count": chunk.count,
            "shards_items_processed": chunk.count,
            "shards_failed_items": chunk.failed,
            "shards_details": converted["tasks_measurements"],
            "results_task_id": task_id,
            "results_start": chunk.start,
            "results_count": chunk.count,
            "results_failed": chunk.failed,
            "results_crc32": chunk.crc32,
            "results_rows": chunk.rows,
        }
        return FinishedTask(task_id, values)

    def store(self, finished: Sequence[FinishedTask]) -> list[Exception | None]:
        """Store tasks, many of them in one transaction. Return the reason why each is not stored,
        None for one that is. Blocks.
        """
        reasons: list[Exception | None] = []
        for start in range(0, len(finished), MOST_ROWS):
            reasons += self._store(finished[start : start + MOST_ROWS])
        return reasons

    def _store(self, finished: Sequence[FinishedTask]) -> list[Exception | None]:
        try:
            self._insertion.execute([each.values for each in finished])
        except IntegrityError as error:
            if len(finished) == 1:
                text = "there is such a task already"
                conflict = TaskConflictError(finished[0].task_id, text)
                conflict.__cause__ = error
                return [conflict]
            return [reason for each in finished for reason in self._store([each])]
        except Exception as error:
            return [error] * len(finished)
        return [None] * len(finished)


def _named(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    return {parameter_of(table, name): value for name, value in values.items()}
