"""The task store: every task that is kept, in SQLite or PostgreSQL.

All methods block, and may be called from any thread and in any number of processes at once. Each
is one transaction. Any of them raises StoreError when the database cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.engine import for_writing, make_engine, store_errors
from app.tasks.model import (
    FINISHED,
    UNFINISHED,
    JsonObject,
    Task,
    is_task_id,
    may_become,
    utc_now,
)
from app.tasks.tables import prepare_schema, tasks

INTERRUPTED: Final = "interrupted"
"""The `error_code` of a task whose process is gone."""

_IDS_PER_STATEMENT: Final = 500  # databases bound the number of parameters


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some of the tasks that match, newest first, and how many match in all."""

    tasks: tuple[Task, ...]
    total: int


class TaskStore:
    """Keeps tasks. A task moves only as `app.tasks.model.MOVES` allows, each move by one caller:
    of several that race, one succeeds and the others get TaskConflictError.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` is one of `app.tasks.engine.make_engine`. Makes the tables where they are
        missing; StoreError when a newer version of the service made them.
        """
        self._engine = engine
        self._write_engine = for_writing(engine)
        with self._writing() as connection:
            prepare_schema(connection)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def create(self, task: Task) -> None:
        """Keep a new task. TaskConflictError when there is one of this id."""
        values = {field.name: getattr(task, field.name) for field in fields(task)}
        try:
            with self._writing() as connection:
                connection.execute(insert(tasks).values(**values))
        except IntegrityError as error:
            raise TaskConflictError(task.task_id, "there is such a task already") from error

    def mark_running(self, task_id: str, owner: str, total_items: int) -> None:
        """Pending to running, executed by the process `owner` from now on; by now it is known how
        many items there are.

        Raises TaskNotFoundError, TaskConflictError.
        """
        self._move(
            task_id,
            TaskStatus.RUNNING,
            {"owner": owner, "start_time": utc_now(), "total_items": total_items},
        )

    def record_progress(self, task_id: str, items_processed: int, failed_items: int) -> None:
        """Store both counts so far. Raises TaskNotFoundError, and TaskConflictError unless the
        task is running.
        """
        counts = {"items_processed": items_processed, "failed_items": failed_items}
        with self._writing() as connection:
            if not _update(connection, task_id, {TaskStatus.RUNNING}, counts):
                status = _status(connection, task_id)
                raise TaskConflictError(task_id, f"it is {status}; progress needs a running task")

    def finish(
        self,
        task_id: str,
        status: TaskStatus,
        *,
        items_processed: int,
        failed_items: int,
        measurements: JsonObject | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> None:
        """Move the task to `completed`, `failed` or `cancelled`, with its last counts.

        Raises TaskNotFoundError, TaskConflictError; ValueError for another status.
        """
        if status not in FINISHED:
            raise ValueError(f"{status} is not an end")
        self._move(
            task_id,
            status,
            {
                "end_time": utc_now(),
                "items_processed": items_processed,
                "failed_items": failed_items,
                "measurements": measurements,
                "error_code": error_code,
                "error_message": error_message,
            },
        )

    def get(self, task_id: str) -> Task:
        """The task, or TaskNotFoundError."""
        with self._reading() as connection:
            return _task(_row(connection, task_id))

    def status(self, task_id: str) -> TaskStatus | None:
        """The task's state; None when there is no such task."""
        try:
            return self.get(task_id).status
        except TaskNotFoundError:
            return None

    def page(
        self,
        status: TaskStatus | None = None,
        strategy: str | None = None,
        kernel: str | None = None,
        *,
        limit: int,
        offset: int = 0,
    ) -> TaskPage:
        """At most `limit` tasks that match what is given, newest first, without the first
        `offset` of them.
        """
        wanted = {tasks.c.status: status, tasks.c.strategy: strategy, tasks.c.kernel: kernel}
        conditions = [column == value for column, value in wanted.items() if value is not None]
        newest = select(tasks).where(*conditions).limit(limit).offset(offset)
        newest = newest.order_by(tasks.c.created_at.desc(), tasks.c.task_id.desc())
        with self._reading() as connection:
            rows = connection.execute(newest).mappings().all()
            count = select(func.count()).select_from(tasks).where(*conditions)
            total = connection.scalar(count) or 0
        return TaskPage(tuple(map(_task, rows)), total)

    def delete(self, task_id: str) -> None:
        """Forget a finished task. Raises TaskNotFoundError, and TaskConflictError for another."""
        _check_id(task_id)
        with self._writing() as connection:
            gone = delete(tasks).where(tasks.c.task_id == task_id, tasks.c.status.in_(FINISHED))
            if connection.execute(gone).rowcount == 0:
                status = _status(connection, task_id)
                raise TaskConflictError(task_id, f"it is {status}; cancel it first")

    def withdraw(self, task_id: str) -> None:
        """Forget a task that was refused before it ran. Raises TaskNotFoundError, and
        TaskConflictError unless it is pending.
        """
        _check_id(task_id)
        with self._writing() as connection:
            gone = delete(tasks).where(
                tasks.c.task_id == task_id, tasks.c.status == TaskStatus.PENDING
            )
            if connection.execute(gone).rowcount == 0:
                status = _status(connection, task_id)
                raise TaskConflictError(task_id, f"it is {status}; only a pending one is withdrawn")

    def delete_finished(self) -> list[str]:
        """Forget all finished tasks, and return their ids."""
        finished = select(tasks.c.task_id).where(tasks.c.status.in_(FINISHED))
        with self._writing() as connection:
            ids = list(connection.scalars(finished.with_for_update()))
            for start in range(0, len(ids), _IDS_PER_STATEMENT):
                some = ids[start : start + _IDS_PER_STATEMENT]
                connection.execute(delete(tasks).where(tasks.c.task_id.in_(some)))
        return ids

    def interrupt_orphans(self, is_alive: Callable[[str], bool]) -> list[str]:
        """Fail the unfinished tasks whose owner `is_alive` denies; return their ids."""
        unfinished = select(tasks.c.task_id, tasks.c.status, tasks.c.owner).where(
            tasks.c.status.in_(UNFINISHED)
        )
        with self._reading() as connection:
            found = connection.execute(unfinished).all()
        orphans = [row for row in found if not is_alive(row.owner)]
        interrupted = []
        for row in orphans:
            end = {
                "status": TaskStatus.FAILED,
                "end_time": utc_now(),
                "error_code": INTERRUPTED,
                "error_message": (
                    f"the service stopped while the task was {row.status}; what was finished is "
                    "kept. Ask for the rest again."
                ),
            }
            # Nothing happens when the task has gone on since it was read.
            with self._writing() as connection:
                if _update(connection, row.task_id, {row.status}, end):
                    interrupted.append(row.task_id)
        return interrupted

    def _move(self, task_id: str, status: TaskStatus, values: dict[str, Any]) -> None:
        with self._writing() as connection:
            if not _update(connection, task_id, may_become(status), {"status": status, **values}):
                present = _status(connection, task_id)
                raise TaskConflictError(task_id, f"it is {present} and cannot become {status}")

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with store_errors(self._engine), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with store_errors(self._engine), self._write_engine.begin() as connection:
            yield connection


def open_store(location: Path | str, *, busy_timeout_seconds: float = 30.0) -> TaskStore:
    """The store in a data folder (a Path), or at a database URL (text).

    With SQLite, a method waits `busy_timeout_seconds` for other writers before it gives up.
    """
    engine = make_engine(location, busy_timeout_seconds)
    try:
        return TaskStore(engine)
    except BaseException:
        engine.dispose()
        raise


def _update(
    connection: Connection,
    task_id: str,
    statuses: Iterable[TaskStatus],
    values: dict[str, Any],
) -> bool:
    """Change the task if it is in one of `statuses`; whether it was."""
    _check_id(task_id)
    change = update(tasks).where(tasks.c.task_id == task_id, tasks.c.status.in_(statuses))
    return connection.execute(change.values(**values)).rowcount == 1


def _check_id(task_id: str) -> None:
    # Other text must not reach the database, which might refuse it in its own way.
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id)


def _row(connection: Connection, task_id: str) -> RowMapping:
    _check_id(task_id)
    row = connection.execute(select(tasks).where(tasks.c.task_id == task_id)).mappings().first()
    if row is None:
        raise TaskNotFoundError(task_id)
    return row


def _status(connection: Connection, task_id: str) -> TaskStatus:
    return _task(_row(connection, task_id)).status


def _task(row: RowMapping) -> Task:
    return Task(**row)
