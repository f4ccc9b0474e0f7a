"""The task store: every task that is kept, in SQLite or PostgreSQL.

All methods block, and may be called from any thread and in any number of processes at once. Each
is one transaction. Any of them raises StoreError when the database cannot be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from hotloop.app.database import sqlite
from hotloop.app.database.engine import Observe, alone, make_engine, reading, slow, writing
from hotloop.app.errors import StoreError, TaskConflictError, TaskNotFoundError
from hotloop.app.names import Durability, TaskKind, TaskStatus, TaskType
from hotloop.app.tasks import rows
from hotloop.app.tasks.chunks import ResultRows, join
from hotloop.app.tasks.folder import InputStore
from hotloop.app.tasks.model import FINISHED, PART, UNFINISHED, Shard, Task, items_in_work, utc_now
from hotloop.app.tasks.results import ResultsReader
from hotloop.app.tasks.rows import TASK_FIELDS
from hotloop.app.tasks.shards import ShardStore
from hotloop.app.tasks.tables import prepare_schema, shards, tasks
from hotloop.app.tasks.webhooks import add_webhook

INTERRUPTED: Final = "interrupted"
"""The `error_code` of a task whose process has died."""

CheckUnfinished = Callable[[int, float], None]
"""Function of a client's number of background tasks and their estimated seconds; may raise."""

_IDS_PER_STATEMENT: Final = 500  # databases bound the number of parameters

# Statements that are used often are made once: making them takes longer than executing them.
_NEW_TASK: Final = sa.insert(tasks)
_UNFINISHED: Final = sa.select(sa.func.count(), sa.func.sum(tasks.c.estimated_seconds)).where(
    tasks.c.end_time.is_(None), tasks.c.task_type == TaskType.BACKGROUND
)
_UNFINISHED_WITHOUT_CLIENT: Final = _UNFINISHED.where(tasks.c.client.is_(None))
_UNFINISHED_OF_CLIENT: Final = _UNFINISHED.where(tasks.c.client == sa.bindparam("of_client"))
_NEWEST_FIRST: Final = tasks.c.created_at.desc(), tasks.c.task_id.desc()
_RUNNING: Final = sa.select(
    *(shards.c[name] for name in ("task_id", "status", "attempt", "count", "items_processed")),
    shards.c.details["in_work"].label("in_work"),
).where(shards.c.status == TaskStatus.RUNNING)
"""Selection of the shards that are executed now, with their items in work."""


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some of the tasks that match, newest first, and how many match in all."""

    tasks: tuple[Task, ...]
    total: int
    shards: Mapping[str, Sequence[Shard]]
    """The shards of these tasks, by the task's id."""


class TaskStore:
    """Keeps tasks. A task moves only as `app.tasks.model.MOVES` allows. Of several callers that
    race for one move, one succeeds and the others get TaskConflictError.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """`engine` is one of `app.database.engine.make_engine`. Missing tables are made, and those
        of an earlier version are converted; StoreError for those of a newer one.
        """
        self.engine = engine
        self.shards = ShardStore(engine)
        self.inputs = InputStore(engine)
        with writing(engine) as connection:
            alone(connection)
            prepare_schema(connection)
        sqlite.take_reserve(engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    # --- how tasks come, change and go ----------------------------------------------------------

    def create(
        self,
        task: Task,
        shard_counts: Sequence[int] | None = None,
        check: CheckUnfinished | None = None,
    ) -> list[Shard]:
        """Store a new task and its shards, and return the shards; those of a background task are
        queued. `shard_counts` are the items of each shard, one shard when it is not given. A task
        whose items are still coming in gets no shards, see `hotloop.app.tasks.acceptance`. `check`
        is called with what `unfinished` returns for the task's client, and may raise to refuse it.

        TaskConflictError when there is a task of this id.
        """
        counts = [task.total_items] if shard_counts is None else shard_counts
        is_queued = task.task_type == TaskType.BACKGROUND
        queued_at = task.created_at.timestamp() if is_queued else None
        try:
            with writing(self.engine) as connection:
                if check is not None:
                    check(*unfinished(connection, task.client))
                connection.execute(_NEW_TASK, rows.task_values(task))
                add_webhook(connection, task)
                return rows.insert_shards(connection, task, counts, queued_at)
        except IntegrityError as error:
            raise TaskConflictError(task.task_id, "there is such a task already") from error

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
            if not rows.update_task(connection, task_id, {TaskStatus.PENDING}, values):
                text = "it is {status}; its execution has begun"
                raise rows.conflict(connection, task_id, text)
            rows.end_shards(connection, task_id, status, error)

    def estimate(self, task_id: str, seconds: float) -> None:
        """Store the estimate of a task whose items have become known."""
        with writing(self.engine) as connection:
            known = sa.update(tasks).where(tasks.c.task_id == task_id)
            connection.execute(known.values(estimated_seconds=seconds))

    def delete(self, task_id: str) -> None:
        """Remove a finished task and its results. Raises TaskNotFoundError; TaskConflictError for
        an unfinished task.
        """
        self._remove(task_id, FINISHED, "it is {status}; cancel it first")
        sqlite.shrink(self.engine)

    def withdraw(self, task_id: str) -> None:
        """Remove a task that was refused before it ran. Raises TaskNotFoundError, and
        TaskConflictError unless it is pending.
        """
        text = "it is {status}; only a pending one is withdrawn"
        self._remove(task_id, {TaskStatus.PENDING}, text)

    def _remove(self, task_id: str, statuses: Iterable[TaskStatus], text: str) -> None:
        rows.check_id(task_id)
        gone = sa.delete(tasks).where(tasks.c.task_id == task_id, tasks.c.status.in_(statuses))
        with writing(self.engine) as connection, slow(connection):
            if connection.execute(gone).rowcount == 0:
                raise rows.conflict(connection, task_id, text)

    def remove_part(self, task_id: str) -> None:
        """Remove a task that served another one, whatever its state, if it is still there."""
        gone = sa.delete(tasks).where(
            tasks.c.task_id == rows.check_id(task_id), tasks.c.kind == PART
        )
        with writing(self.engine) as connection:
            connection.execute(gone)

    def delete_finished(
        self, ended_before: datetime | None = None, client: str | None = None
    ) -> list[str]:
        """Remove all finished tasks and their results, or only those that ended before a time, or
        those of a client; returns their ids.
        """
        finished = sa.select(tasks.c.task_id).where(tasks.c.status.in_(FINISHED))
        if ended_before is not None:
            finished = finished.where(tasks.c.end_time < ended_before)
        if client is not None:
            finished = finished.where(tasks.c.client == client)
        with writing(self.engine) as connection:
            ids = list(connection.scalars(finished.with_for_update()))
            with slow(connection):
                for some in _portions(ids):
                    connection.execute(sa.delete(tasks).where(tasks.c.task_id.in_(some)))
        if ids:
            sqlite.shrink(self.engine)
        return ids

    def interrupt_orphans(self, is_alive: Callable[[str], bool]) -> list[str]:
        """Fail the unfinished synchronous tasks whose owner `is_alive` denies, and return their
        ids. Tasks that only served another one are removed.
        """
        wanted = sa.select(tasks.c.task_id, tasks.c.status, tasks.c.owner, tasks.c.kind).where(
            tasks.c.status.in_(UNFINISHED), tasks.c.task_type == TaskType.SYNCHRONOUS
        )
        with reading(self.engine) as connection:
            found = connection.execute(wanted).all()
        interrupted = []
        for row in found:
            if is_alive(row.owner):
                continue
            if row.kind == PART:
                self.remove_part(row.task_id)
                continue
            end = {
                "status": TaskStatus.FAILED,
                "end_time": utc_now(),
                "error_code": INTERRUPTED,
                "error_message": (
                    f"the service stopped while the task was {row.status}; finished items are "
                    "kept. Send a request for the rest."
                ),
            }
            # Nothing happens when the task has moved on since it was read.
            with writing(self.engine) as connection:
                if rows.update_task(connection, row.task_id, {row.status}, end):
                    rows.end_shards(connection, row.task_id, TaskStatus.FAILED, {})
                    interrupted.append(row.task_id)
        return interrupted

    # --- what the store tells of tasks ----------------------------------------------------------

    def get(self, task_id: str) -> Task:
        """Return the task. Raises TaskNotFoundError."""
        with reading(self.engine) as connection:
            return rows.to_task(rows.task_row(connection, task_id))

    def status(self, task_id: str) -> TaskStatus | None:
        """Return the task's state; None if there is no such task."""
        try:
            return self.get(task_id).status
        except TaskNotFoundError:
            return None

    def client_of(self, task_id: str) -> str | None:
        """Return the client that the task belongs to. Raises TaskNotFoundError."""
        with reading(self.engine) as connection:
            client: str | None = rows.task_row(connection, task_id)["client"]
        return client

    def results(self, task_id: str) -> ResultsReader | None:
        """Return a reader of the task's stored results; None if its execution never began.

        Raises TaskNotFoundError.
        """
        with reading(self.engine) as connection:
            columns = rows.task_row(connection, task_id)["result_columns"]
        return None if columns is None else ResultsReader(self.engine, task_id, columns)

    def all_results(self, task_id: str) -> ResultRows:
        """Return all results of a task that has completed. Raises TaskNotFoundError, and StoreError
        if they are gone.
        """
        reader = self.results(task_id)
        blocks = [] if reader is None else list(reader.blocks())
        if not blocks:
            raise StoreError("the results of the run are gone; send the request again")
        return join(blocks)

    def with_shards(self, task_id: str) -> tuple[Task, list[Shard]]:
        """Return the task and its shards, in order, as of one moment. Raises TaskNotFoundError."""
        with reading(self.engine) as connection:
            task = rows.to_task(rows.task_row(connection, task_id))
            return task, rows.all_shards(connection, task_id)

    def several(self, task_ids: Sequence[str]) -> dict[str, tuple[Task, list[Shard]]]:
        """Return the existing ones of these tasks by id, with their shards in order."""
        found: dict[str, tuple[Task, list[Shard]]] = {}
        with reading(self.engine) as connection:
            for some in _portions(task_ids):
                of_tasks = rows.shards_of(connection, some)
                wanted = sa.select(*TASK_FIELDS).where(tasks.c.task_id.in_(some))
                for task in rows.read_tasks(connection, wanted):
                    found[task.task_id] = task, of_tasks[task.task_id]
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
        """Return at most `limit` tasks that match all filters, newest first, from `offset` on."""
        wanted = {tasks.c.status: status, tasks.c.strategy: strategy, tasks.c.kernel: kernel}
        wanted |= {tasks.c.kind: kind, tasks.c.client: client}
        conditions = [column == value for column, value in wanted.items() if value is not None]
        conditions.append(tasks.c.kind != PART)
        newest = sa.select(*TASK_FIELDS).where(*conditions).limit(limit).offset(offset)
        with reading(self.engine) as connection:
            found = rows.read_tasks(connection, newest.order_by(*_NEWEST_FIRST))
            count = sa.select(sa.func.count()).select_from(tasks).where(*conditions)
            total = connection.scalar(count) or 0
            of_tasks = rows.shards_of(connection, [task.task_id for task in found])
        return TaskPage(tuple(found), total, of_tasks)

    def progress(self, task_ids: Sequence[str]) -> dict[str, tuple[TaskStatus, int]]:
        """Return state and processed items of the existing ones of these tasks by id. Progress of
        items in work counts.
        """
        columns = tasks.c.task_id, tasks.c.status, tasks.c.items_processed
        found: dict[str, tuple[TaskStatus, int]] = {}
        with reading(self.engine) as connection:
            for some in _portions(task_ids):
                stored = connection.execute(sa.select(*columns).where(tasks.c.task_id.in_(some)))
                found |= {row.task_id: (row.status, row.items_processed) for row in stored}
                for row in connection.execute(_RUNNING.where(shards.c.task_id.in_(some))):
                    status, processed = found.get(row.task_id, (None, 0))
                    if status is TaskStatus.RUNNING and row.in_work is not None:
                        more = items_in_work(row, row.in_work)
                        found[row.task_id] = status, processed + more
        return found

    def by_key(self, idempotency_key: str, client: str | None = None) -> Task | None:
        """Return the client's task with the idempotency key, if there is one."""
        wanted = sa.select(*TASK_FIELDS).where(
            sa.func.coalesce(tasks.c.client, "") == (client or ""),
            tasks.c.idempotency_key == idempotency_key,
        )
        with reading(self.engine) as connection:
            return next(iter(rows.read_tasks(connection, wanted)), None)

    def unfinished(self, client: str | None) -> tuple[int, float]:
        """Return the number of the client's unfinished background tasks, and the sum of their
        estimated seconds.
        """
        with reading(self.engine) as connection:
            return unfinished(connection, client)

    def stored_bytes(self, client: str | None) -> int:
        """Return the known bytes of the inputs and results of all tasks of the client."""
        # One condition for both cases would keep PostgreSQL from using the index.
        own = tasks.c.client.is_(None) if client is None else tasks.c.client == client
        total = sa.select(sa.func.sum(tasks.c.stored_bytes)).where(own)
        with reading(self.engine) as connection:
            return int(connection.scalar(total) or 0)

    def estimated(self, limit: int) -> list[tuple[Task, list[Shard]]]:
        """Return the newest completed runs with an estimate and a single execution, at most
        `limit`, with their shards. A run that was begun again, or waited for a node, measures more
        than its estimate covers, and is left out.
        """
        attempts = sa.select(sa.func.sum(shards.c.attempt) == sa.func.count())
        wanted = (
            sa.select(*TASK_FIELDS)
            .where(
                tasks.c.kind == TaskKind.RUN,
                tasks.c.status == TaskStatus.COMPLETED,
                tasks.c.estimated_seconds.is_not(None),
                attempts.where(shards.c.task_id == tasks.c.task_id).scalar_subquery(),
            )
            .order_by(*_NEWEST_FIRST)
            .limit(limit)
        )
        with reading(self.engine) as connection:
            found = rows.read_tasks(connection, wanted)
            of_tasks = rows.shards_of(connection, [task.task_id for task in found])
        return [(task, of_tasks[task.task_id]) for task in found]

    def needing_files(self, task_ids: Sequence[str]) -> set[str]:
        """Select the tasks whose items must stay in the data folder. Where the database has the
        items too, the folder has copies: these are kept while a shard waits for a node, as this
        node may be the next.
        """
        waiting = sa.exists().where(
            shards.c.task_id == tasks.c.task_id,
            shards.c.node.is_(None),
            shards.c.status.in_(UNFINISHED),
        )
        # An execution in this folder holds its file open, so no row needs to keep it.
        shared = sa.or_(tasks.c.status == TaskStatus.PENDING, waiting)
        resumable = sa.or_(tasks.c.status != TaskStatus.COMPLETED, tasks.c.failed_items > 0)
        is_needed = sa.case(
            (tasks.c.task_type == TaskType.SYNCHRONOUS, tasks.c.status.in_(UNFINISHED)),
            else_=shared if self.inputs.is_needed else resumable,
        )
        found: set[str] = set()
        with reading(self.engine) as connection:
            for some in _portions(task_ids):
                wanted = sa.select(tasks.c.task_id).where(tasks.c.task_id.in_(some), is_needed)
                found.update(connection.scalars(wanted))
        return found


def unfinished(connection: sa.Connection, client: str | None) -> tuple[int, float]:
    """Do what `TaskStore.unfinished` says within a transaction of the caller's."""
    if client is None:
        found = connection.execute(_UNFINISHED_WITHOUT_CLIENT)
    else:
        found = connection.execute(_UNFINISHED_OF_CLIENT, {"of_client": client})
    count, seconds = found.one()
    return count, seconds or 0.0


def open_store(
    location: Path | str,
    *,
    busy_timeout_seconds: float = 30.0,
    observe: Observe | None = None,
    durability: Durability = Durability.POWER,
) -> TaskStore:
    """Open the store in a data folder (a Path), or at a database URL (text).

    With SQLite, a method waits `busy_timeout_seconds` for other writers before it gives up.
    """
    engine = make_engine(location, busy_timeout_seconds, observe, durability)
    try:
        return TaskStore(engine)
    except BaseException:
        engine.dispose()
        raise


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the ids in portions that one statement can take."""
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        yield ids[start : start + _IDS_PER_STATEMENT]
