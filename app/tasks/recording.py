"""Storing tasks that are over: many of them in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.statements import MOST_GROUPS, Insertion, Row
from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.records import JsonObject
from hotloop.app.tasks.chunks import Chunk, ResultColumns, chunk_values
from hotloop.app.tasks.model import Shard, Task, new_task_id
from hotloop.app.tasks.rows import shard_values, task_values
from hotloop.app.tasks.tables import results, shards, tasks


class FinishedTask(NamedTuple):
    """The rows of a task that is over: its own, that of its only shard, and its results."""

    task: Row
    shard: Row
    chunk: Row

    @property
    def task_id(self) -> str:
        found: str = self.task["task_id"]
        return found


class Template(NamedTuple):
    """The values that the rows of similar tasks have in common."""

    task: Row
    shard: Row


class Recorder:
    """Makes and stores tasks that are over."""

    def __init__(self, engine: Engine) -> None:
        self._insertion = Insertion(engine, (tasks, shards, results))

    def template(self, task: Task, columns: ResultColumns) -> Template:
        """Return the rows that completed tasks like this one, of one shard that the owner executes
        at once, have in common. `columns` are those of their results.
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
        convert = self._insertion.converted
        return Template(convert(0, of_task), convert(1, shard_values(shard)))

    def finished(
        self,
        template: Template,
        begun: datetime,
        ended: datetime,
        client: str | None,
        chunk: Chunk,
        measured: JsonObject,
    ) -> FinishedTask:
        """Return a new task like the template, with all its results."""
        task_id = new_task_id()
        converted = self._insertion.converted(
            0, {"created_at": begun, "end_time": ended, "measurements": measured}
        )
        counts = {"items_processed": chunk.count, "failed_items": chunk.failed}
        task: dict[str, Any] = {
            **template.task,
            **converted,
            **counts,
            "task_id": task_id,
            "start_time": converted["created_at"],
            "total_items": chunk.count,
            "client": client,
            "stored_bytes": chunk.count * template.task["item_bytes"],
        }
        shard: dict[str, Any] = {
            **template.shard,
            **counts,
            "task_id": task_id,
            "count": chunk.count,
            "details": converted["measurements"],
        }
        return FinishedTask(task, shard, {"task_id": task_id, **chunk_values(chunk)})

    def store(self, finished: Sequence[FinishedTask]) -> list[Exception | None]:
        """Store tasks, many of them in one transaction. Return the reason why each is not stored,
        None for one that is. Blocks.
        """
        reasons: list[Exception | None] = []
        for start in range(0, len(finished), MOST_GROUPS):
            reasons += self._store(finished[start : start + MOST_GROUPS])
        return reasons

    def _store(self, finished: Sequence[FinishedTask]) -> list[Exception | None]:
        try:
            self._insertion.execute(finished)
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
