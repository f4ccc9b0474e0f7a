"""The task store: every task that is kept, in SQLite or PostgreSQL.

All methods block, and may be called from any thread and in any number of processes at once. Each
is one transaction. Any of them raises StoreError when the database cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskKind, TaskStatus, TaskType
from hotloop.app.tasks.engine import Observe, alone, make_engine, reading, slow, writing
from hotloop.app.tasks.inputs import InputStore
from hotloop.app.tasks.migrations import prepare_schema
from hotloop.app.tasks.model import (
    FINISHED,
    PART,
    UNFINISHED,
    Shard,
    Task,
    items_in_work,
    utc_now,
)
from hotloop.app.tasks.results import ResultsReader
from hotloop.app.tasks.rows import TASK_FIELDS, check_id, conflict, task_row, to_task, update_task
from hotloop.app.tasks.shard_rows import (
    all_shards,
    end_shards,
    insert_shards,
    shards_of,
    task_needs,
)
from hotloop.app.tasks.shards import ShardStore
from hotloop.app.tasks.tables import shards, tasks
from hotloop.app.tasks.upkeep import set_up, shrink

INTERRUPTED: Final = "interrupted"
"""The `error_code` of a task whose process is gone."""

CheckUnfinished = Callable[[int, float], None]
"""Given how many background tasks a client has, and their estimated seconds; may raise."""

_IDS_PER_STATEMENT: Final = 500  # databases bound the number of parameters

# Made once: to make them takes longer than to execute them.
_NEW_TASK: Final = insert(tasks)
_UNFINISHED: Final = select(func.count(), func.sum(tasks.c.estimated_seconds)).where(
    tasks.c.end_time.is_(None), tasks.c.task_type == TaskType.BACKGROUND
)
_UNFINISHED_OF_NOBODY: Final = _UNFINISHED.where(tasks.c.client.is_(None))
_UNFINISHED_OF_CLIENT: Final = _UNFINISHED.where(tasks.c.client == bindparam("of_client"))


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some of the tasks that match, newest first, and how many match in all."""

    tasks: tuple[Task, ...]
    total: int
    shards: Mapping[str, Sequence[Shard]]
    """Those of the tasks, by their id."""


class TaskStore:
    """Keeps tasks. A task moves only as `app.tasks.model.MOVES` allows, each move by one caller:
    of several that race, one succeeds and the others get TaskConflictError.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` is one of `app.tasks.engine.make_engine`. Makes the tables where they are
        missing, and converts those of an earlier version; StoreError for those of a newer one.
        """
        self.engine = engine
        self.shards = ShardStore(engine)
        self.inputs = InputStore(engine)
        with writing(engine) as connection:
            alone(connection)
            prepare_schema(connection)
        set_up(engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def create(
        self,
        task: Task,
        shard_counts: Sequence[int] | None = None,
        check: CheckUnfinished | None = None,
    ) -> list[Shard]:
        """Keep a new task, with shards of so many items one after another, which it returns; one
        when not said, and none for a task whose items are still to come, see
        `hotloop.app.tasks.acceptance`. Those of a background task are queued. `check` is given what
        `unfinished` tells of the task's client, and keeps the task out by raising.

        TaskConflictError when there is a task of this id.
        """
        values = {field.name: getattr(task, field.name) for field in fields(task)}
        counts = [task.total_items] if shard_counts is None else shard_counts
        try:
            with writing(self.engine) as connection:
                if check is not None:
                    check(*unfinished(connection, task.client))
                connection.execute(_NEW_TASK, values)
                queued_at = (
                    task.created_at.timestamp() if task.task_type == TaskType.BACKGROUND else None
                )
                return insert_shards(connection, task.task_id, counts, queued_at, task_needs(task))
        except IntegrityError as error:
            raise TaskConflictError(task.task_id, "there is such a task already") from error

    def results(self, task_id: str) -> ResultsReader | None:
        """What is stored of the task's results; None when its execution never began.

        Raises TaskNotFoundError.
        """
        with reading(self.engine) as connection:
            columns = task_row(connection, task_id)["result_columns"]
        return None if columns is None else ResultsReader(self.engine, task_id, columns)

    def finish_unbegun(
        self, task_id: str, status: TaskStatus, error_code: str, error_message: str
    ) -> None:
        """Move a task whose execution never began to `failed` or `cancelled`.

        Raises TaskNotFoundError, TaskConflictError; ValueError for another status.
        """
        if status not in FINISHED - {TaskStatus.COMPLETED}:
            raise ValueError(f"{status} is not an end without an execution")
        error = {"error_code": error_code, "error_message": error_message}
        with writing(self.engine) as connection:
            values = {"status": status, "end_time": utc_now(), **error}
            if not update_task(connection, task_id, {TaskStatus.PENDING}, values):
                raise conflict(connection, task_id, "it is {status}; its execution has begun")
            end_shards(connection, task_id, status, error)

    def estimate(self, task_id: str, seconds: float) -> None:
        """Keep what a task is estimated at, now that its items are known."""
        with writing(self.engine) as connection:
            known = update(tasks).where(tasks.c.task_id == task_id)
            connection.execute(known.values(estimated_seconds=seconds))

    def estimated(self, limit: int) -> list[tuple[Task, list[Shard]]]:
        """The newest completed runs that were estimated and then executed in one go, at most
        `limit`, with their shards: what was begun again, or waited for a node, measures more than
        was estimated.
        """
        attempts = select(func.sum(shards.c.attempt) == func.count())
        wanted = (
            select(*TASK_FIELDS)
            .where(
                tasks.c.kind == TaskKind.RUN,
                tasks.c.status == TaskStatus.COMPLETED,
                tasks.c.estimated_seconds.is_not(None),
                attempts.where(shards.c.task_id == tasks.c.task_id).scalar_subquery(),
            )
            .order_by(tasks.c.created_at.desc(), tasks.c.task_id.desc())
            .limit(limit)
        )
        with reading(self.engine) as connection:
            found = [to_task(row) for row in connection.execute(wanted).mappings()]
            of_tasks = shards_of(connection, [task.task_id for task in found])
        return [(task, list(of_tasks[task.task_id])) for task in found]

    def get(self, task_id: str) -> Task:
        """The task, or TaskNotFoundError."""
        with reading(self.engine) as connection:
            row = task_row(connection, task_id)
        return to_task(row)

    def client_of(self, task_id: str) -> str | None:
        """Whose the task is. Raises TaskNotFoundError."""
        with reading(self.engine) as connection:
            client: str | None = task_row(connection, task_id)["client"]
        return client

    def unfinished(self, client: str | None) -> tuple[int, float]:
        """Of the background tasks that the client has waiting or running: how many, and at how
        many seconds they are estimated together, as far as they are estimated.
        """
        with reading(self.engine) as connection:
            return unfinished(connection, client)

    def stored_bytes(self, client: str | None) -> int:
        """Bytes of the inputs and results of all tasks of the client, as far as they are known."""
        # PostgreSQL would not use the index for both at once.
        own = tasks.c.client.is_(None) if client is None else tasks.c.client == client
        total = select(func.sum(tasks.c.stored_bytes)).where(own)
        with reading(self.engine) as connection:
            return int(connection.scalar(total) or 0)

    def with_shards(self, task_id: str) -> tuple[Task, list[Shard]]:
        """The task and its shards, in order, as they were at one moment. TaskNotFoundError."""
        with reading(self.engine) as connection:
            row = task_row(connection, task_id)
            of_task = all_shards(connection, task_id)
        return to_task(row), of_task

    def several(self, task_ids: Sequence[str]) -> dict[str, tuple[Task, list[Shard]]]:
        """What `with_shards` tells of each of some tasks, by their ids; those that there are."""
        found: dict[str, tuple[Task, list[Shard]]] = {}
        with reading(self.engine) as connection:
            for start in range(0, len(task_ids), _IDS_PER_STATEMENT):
                some = task_ids[start : start + _IDS_PER_STATEMENT]
                of_tasks = shards_of(connection, some)
                rows = connection.execute(select(*TASK_FIELDS).where(tasks.c.task_id.in_(some)))
                for row in rows.mappings():
                    found[row["task_id"]] = Task(**row), of_tasks[row["task_id"]]
        return found

    def status(self, task_id: str) -> TaskStatus | None:
        """The task's state; None when there is no such task."""
        try:
            return self.get(task_id).status
        except TaskNotFoundError:
            return None

    def needing_files(self, task_ids: Sequence[str]) -> set[str]:
        """Those of some tasks whose items must stay in the data folder. Where the database has
        them too, the folder has copies, which are kept while a shard waits for a node: this one
        may be the next.
        """
        waiting = exists().where(
            shards.c.task_id == tasks.c.task_id,
            shards.c.node.is_(None),
            shards.c.status.in_(UNFINISHED),
        )
        # An execution in this folder holds its file, and needs no row to keep it.
        shared = or_(tasks.c.status == TaskStatus.PENDING, waiting)
        resumable = tasks.c.status != TaskStatus.COMPLETED
        is_needed = case(
            (tasks.c.task_type == TaskType.SYNCHRONOUS, tasks.c.status.in_(UNFINISHED)),
            else_=shared if self.inputs.is_needed else resumable,
        )
        found: set[str] = set()
        with reading(self.engine) as connection:
            for start in range(0, len(task_ids), _IDS_PER_STATEMENT):
                some = task_ids[start : start + _IDS_PER_STATEMENT]
                wanted = select(tasks.c.task_id).where(tasks.c.task_id.in_(some), is_needed)
                found.update(connection.scalars(wanted))
        return found

    def page(
        self,
        status: TaskStatus | None = None,
        strategy: str | None = None,
        kernel: str | None = None,
        *,
        kind: str | None = None,
        limit: int,
        offset: int = 0,
        client: str | None = None,
    ) -> TaskPage:
        """At most `limit` tasks that match what is given, newest first, without the first
        `offset` of them.
        """
        wanted = {tasks.c.status: status, tasks.c.strategy: strategy, tasks.c.kernel: kernel}
        wanted |= {tasks.c.kind: kind, tasks.c.client: client}
        conditions = [column == value for column, value in wanted.items() if value is not None]
        conditions.append(tasks.c.kind != PART)
        newest = select(*TASK_FIELDS).where(*conditions).limit(limit).offset(offset)
        newest = newest.order_by(tasks.c.created_at.desc(), tasks.c.task_id.desc())
        with reading(self.engine) as connection:
            rows = connection.execute(newest).mappings().all()
            count = select(func.count()).select_from(tasks).where(*conditions)
            total = connection.scalar(count) or 0
            shards = shards_of(connection, [row["task_id"] for row in rows])
        return TaskPage(tuple(map(to_task, rows)), total, shards)

    def progress(self, task_ids: Sequence[str]) -> dict[str, tuple[TaskStatus, int]]:
        """State and items processed of some tasks, by their ids; those that there are. What items
        in work are worth counts.
        """
        columns = tasks.c.task_id, tasks.c.status, tasks.c.items_processed
        found: dict[str, tuple[TaskStatus, int]] = {}
        with reading(self.engine) as connection:
            for start in range(0, len(task_ids), _IDS_PER_STATEMENT):
                some = task_ids[start : start + _IDS_PER_STATEMENT]
                rows = connection.execute(select(*columns).where(tasks.c.task_id.in_(some)))
                found |= {row.task_id: (row.status, row.items_processed) for row in rows}
                for row in connection.execute(_running(some)):
                    status, processed = found.get(row.task_id, (None, 0))
                    if status is TaskStatus.RUNNING and row.in_work is not None:
                        more = items_in_work(row, row.in_work)
                        found[row.task_id] = status, processed + more
        return found

    def delete(self, task_id: str) -> None:
        """Forget a finished task and its results. Raises TaskNotFoundError, and TaskConflictError
        for another.
        """
        self._forget(task_id, FINISHED, "it is {status}; cancel it first")
        shrink(self.engine)

    def withdraw(self, task_id: str) -> None:
        """Forget a task that was refused before it ran. Raises TaskNotFoundError, and
        TaskConflictError unless it is pending.
        """
        text = "it is {status}; only a pending one is withdrawn"
        self._forget(task_id, {TaskStatus.PENDING}, text)

    def remove_part(self, task_id: str) -> None:
        """Forget a task that served another one, whatever its state; nothing when it is gone."""
        check_id(task_id)
        with writing(self.engine) as connection:
            connection.execute(
                delete(tasks).where(tasks.c.task_id == task_id, tasks.c.kind == PART)
            )

    def delete_finished(
        self, ended_before: datetime | None = None, client: str | None = None
    ) -> list[str]:
        """Forget all finished tasks and their results, or those that ended before a time, or those
        of a client; returns their ids.
        """
        finished = select(tasks.c.task_id).where(tasks.c.status.in_(FINISHED))
        if ended_before is not None:
            finished = finished.where(tasks.c.end_time < ended_before)
        if client is not None:
            finished = finished.where(tasks.c.client == client)
        with writing(self.engine) as connection:
            ids = list(connection.scalars(finished.with_for_update()))
            with slow(connection):
                for start in range(0, len(ids), _IDS_PER_STATEMENT):
                    some = ids[start : start + _IDS_PER_STATEMENT]
                    connection.execute(delete(tasks).where(tasks.c.task_id.in_(some)))
        if ids:
            shrink(self.engine)
        return ids

    def by_key(self, idempotency_key: str, client: str | None = None) -> Task | None:
        """The task that the client asked for under the key."""
        wanted = select(*TASK_FIELDS).where(
            func.coalesce(tasks.c.client, "") == (client or ""),
            tasks.c.idempotency_key == idempotency_key,
        )
        with reading(self.engine) as connection:
            row = connection.execute(wanted).mappings().first()
        return None if row is None else to_task(row)

    def interrupt_orphans(self, is_alive: Callable[[str], bool]) -> list[str]:
        """Fail the unfinished synchronous tasks whose owner `is_alive` denies; return their ids.
        Those that only served another task are forgotten.
        """
        unfinished = select(tasks.c.task_id, tasks.c.status, tasks.c.owner, tasks.c.kind).where(
            tasks.c.status.in_(UNFINISHED), tasks.c.task_type == TaskType.SYNCHRONOUS
        )
        with reading(self.engine) as connection:
            found = connection.execute(unfinished).all()
        orphans = [row for row in found if not is_alive(row.owner)]
        interrupted = []
        for row in orphans:
            if row.kind == PART:
                self.remove_part(row.task_id)
                continue
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
            with writing(self.engine) as connection:
                if update_task(connection, row.task_id, {row.status}, end):
                    end_shards(connection, row.task_id, TaskStatus.FAILED, {})
                    interrupted.append(row.task_id)
        return interrupted

    def _forget(self, task_id: str, statuses: Iterable[TaskStatus], text: str) -> None:
        check_id(task_id)
        gone = delete(tasks).where(tasks.c.task_id == task_id, tasks.c.status.in_(statuses))
        with writing(self.engine) as connection, slow(connection):
            if connection.execute(gone).rowcount == 0:
                raise conflict(connection, task_id, text)


def unfinished(connection: Connection, client: str | None) -> tuple[int, float]:
    """`TaskStore.unfinished` within a transaction of the caller's."""
    if client is None:
        found = connection.execute(_UNFINISHED_OF_NOBODY)
    else:
        found = connection.execute(_UNFINISHED_OF_CLIENT, {"of_client": client})
    count, seconds = found.one()
    return count, seconds or 0.0


def open_store(
    location: Path | str,
    *,
    busy_timeout_seconds: float = 30.0,
    observe: Observe | None = None,
) -> TaskStore:
    """The store in a data folder (a Path), or at a database URL (text).

    With SQLite, a method waits `busy_timeout_seconds` for other writers before it gives up.
    """
    engine = make_engine(location, busy_timeout_seconds, observe)
    try:
        return TaskStore(engine)
    except BaseException:
        engine.dispose()
        raise


def _running(task_ids: Sequence[str]) -> Select[Any]:
    """The shards of some tasks that are executed now, and what each has in work."""
    columns = (shards.c[name] for name in ("task_id", "status", "attempt", "count"))
    return select(
        *columns, shards.c.items_processed, shards.c.details["in_work"].label("in_work")
    ).where(shards.c.task_id.in_(task_ids), shards.c.status == TaskStatus.RUNNING)
