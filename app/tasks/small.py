"""Small background tasks, which are accepted, claimed and ended many at a time.

Tasks with the same key (`Shard.small`) differ in nothing but their items, so that one kernel call
may compute several. That is tried once. A task of which an execution has begun before is executed
by itself: it may have been the reason why that execution did not end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Engine, bindparam
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.engine import reading
from hotloop.app.database.statements import (
    MOST_ROWS,
    Row,
    RowStatements,
    insertion,
    parameter_of,
)
from hotloop.app.errors import ServiceError, TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.records import JsonObject
from hotloop.app.tasks import rows
from hotloop.app.tasks.chunks import Chunk
from hotloop.app.tasks.model import Shard, ShardRef, Task
from hotloop.app.tasks.needs import Needs
from hotloop.app.tasks.store import unfinished
from hotloop.app.tasks.tables import inputs, results, shards, tasks, webhooks

MOST_CLAIMED: Final = 256
"""Small tasks that are claimed at once."""


@dataclass(frozen=True, slots=True)
class SmallKey:
    """The key and the needs of small tasks that one kernel call may compute together."""

    key: str
    needs: Needs
    stored_needs: Mapping[str, Any]
    """The needs as a task's spec has them."""

    @classmethod
    def of(
        cls,
        workload: str,
        kernel: str,
        parameters: Mapping[str, Any],
        needs: Needs,
        stored_needs: Mapping[str, Any],
    ) -> SmallKey:
        text = json.dumps([workload, kernel, sorted(parameters.items()), needs.text])
        return cls(hashlib.sha256(text.encode()).hexdigest()[:32], needs, stored_needs)


@dataclass(frozen=True, slots=True)
class NewTask:
    """A small task that is to be accepted."""

    task: Task
    small: SmallKey
    data: bytes | None
    """The bytes of its item file; None for generated items."""


class Member(NamedTuple):
    """A task among others that were claimed with it; the claim has begun its only shard."""

    task_id: str
    generation: int
    total_items: int
    data: bytes | None
    """The bytes of its item file; None for generated items."""

    @property
    def ref(self) -> ShardRef:
        return ShardRef(self.task_id, 0, self.generation)


@dataclass(frozen=True, slots=True)
class SmallClaims:
    """Some small tasks whose execution has begun, on the node that got the claims."""

    first: Task
    """One of them; the others differ in their items, times, clients and origins."""
    members: Sequence[Member]

    @property
    def refs(self) -> list[ShardRef]:
        return [member.ref for member in self.members]


class Ended(NamedTuple):
    """The end of a small task that has completed."""

    member: Member
    ended: datetime
    chunk: Chunk
    measured: JsonObject
    item_bytes: int


def _optional(table: sa.Table, column: str) -> sa.Insert:
    """Return the insertion of a row that is left out if the value of a column is null."""
    values = [bindparam(parameter_of(table, c.name), type_=c.type).label(c.name) for c in table.c]
    given = bindparam(parameter_of(table, column), type_=table.c[column].type)
    # PostgreSQL cannot know the type of a bare parameter here.
    chosen = sa.select(*values).where(sa.cast(given, given.type).is_not(None))
    return sa.insert(table).from_select([c.name for c in table.c], chosen)


_ID: Final = bindparam("id", type_=sa.String(64))
_IS_OURS: Final = sa.exists().where(
    shards.c.task_id == _ID,
    shards.c.shard == sa.literal_column("0"),
    shards.c.generation == bindparam("generation", type_=sa.Integer),
    shards.c.attempt == sa.literal_column("1"),
    shards.c.status == sa.literal_column(f"'{TaskStatus.RUNNING}'"),
)
_COUNT: Final = bindparam("count", type_=sa.BigInteger)
_FAILED: Final = bindparam("failed", type_=sa.BigInteger)
_MEASURED: Final = bindparam("measured", type_=tasks.c.measurements.type)
_DONE: Final[Any] = sa.literal_column(f"'{TaskStatus.COMPLETED}'")
_CHUNK: Final[dict[str, Any]] = {
    "task_id": _ID,
    "start": sa.literal_column("0"),
    "count": _COUNT,
    "failed": _FAILED,
    "crc32": bindparam("crc32", type_=sa.BigInteger),
    "rows": bindparam("rows", type_=sa.LargeBinary),
}
_ENDS: Final = (
    sa.update(tasks)
    .where(tasks.c.task_id == _ID, _IS_OURS)
    .values(
        status=_DONE,
        end_time=bindparam("ended", type_=tasks.c.end_time.type),
        items_processed=_COUNT,
        failed_items=_FAILED,
        measurements=_MEASURED,
        stored_bytes=bindparam("stored", type_=sa.BigInteger),
    ),
    sa.insert(results).from_select(
        list(_CHUNK), sa.select(*(v.label(n) for n, v in _CHUNK.items())).where(_IS_OURS)
    ),
    sa.update(webhooks)
    .where(webhooks.c.task_id == _ID, _IS_OURS)
    .values(next_at=bindparam("now", type_=sa.Float(53))),
    sa.delete(inputs).where(inputs.c.task_id == _ID, sa.literal_column("0") == _FAILED, _IS_OURS),
    sa.update(shards)
    .where(shards.c.task_id == _ID, shards.c.shard == sa.literal_column("0"), _IS_OURS)
    .values(
        status=_DONE,
        queued_at=sa.null(),
        items_processed=_COUNT,
        failed_items=_FAILED,
        details=_MEASURED,
    ),
)
"""Statements that end a task whose execution is still the current one. The task's row is first, as
for every writer; the shard's is last, because all ask for its state."""


class SmallTasks:
    """Accepts and ends small tasks. All methods block, and raise StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        accepting = [
            *map(insertion, (tasks, shards)),
            _optional(inputs, "data"),
            _optional(webhooks, "task_id"),
        ]
        self._accepting = RowStatements(engine, "accepted", accepting)
        self._ending = RowStatements(engine, "ended", _ENDS)

    def accept(
        self, new: Sequence[NewTask], check: Callable[[Task, int, float], None]
    ) -> list[Exception | None]:
        """Queue tasks, many of them in one transaction. Return the reason why each is not accepted,
        None for one that is. `check` gets a task, and what `TaskStore.unfinished` returns for its
        client; it may raise to refuse it.
        """
        reasons: dict[str, Exception | None] = {}
        fitting = []
        known: dict[str | None, tuple[int, float]] = {}
        for each in new:
            client = each.task.client
            if client not in known:
                with reading(self._engine) as connection:
                    known[client] = unfinished(connection, client)
            count, seconds = known[client]
            try:
                check(each.task, count, seconds)
            except ServiceError as error:
                reasons[each.task.task_id] = error
                continue
            known[client] = count + 1, seconds + (each.task.estimated_seconds or 0.0)
            fitting.append(each)
        for start in range(0, len(fitting), MOST_ROWS):
            reasons |= self._accept(fitting[start : start + MOST_ROWS])
        return [reasons[each.task.task_id] for each in new]

    def _accept(self, new: Sequence[NewTask]) -> dict[str, Exception | None]:
        try:
            self._accepting.execute([self._row(each) for each in new])
        except IntegrityError as error:
            if len(new) == 1:
                task_id = new[0].task.task_id
                conflict = TaskConflictError(task_id, "another task has its id or its key")
                conflict.__cause__ = error
                return {task_id: conflict}
            found: dict[str, Exception | None] = {}
            for each in new:
                found |= self._accept([each])
            return found
        except Exception as error:
            return dict.fromkeys((each.task.task_id for each in new), error)
        return dict.fromkeys(each.task.task_id for each in new)

    def _row(self, new: NewTask) -> Row:
        task = new.task
        shard = Shard(
            task_id=task.task_id,
            shard=0,
            start=0,
            count=task.total_items,
            needs=new.small.needs.text,
            needs_bytes=new.small.needs.memory_bytes,
            rank=task.rank,
            small=new.small.key,
        )
        told = None if task.webhook is None else task.task_id
        hook = {"task_id": told, "number": 0, "attempts": 0}
        values = (
            (tasks, rows.task_values(task) | {"result_columns": None}),
            (shards, rows.shard_values(shard, task.created_at.timestamp())),
            (inputs, {"task_id": task.task_id, "part": 0, "data": new.data}),
            (webhooks, hook | dict.fromkeys(("next_at", "delivered_at", "error"))),
        )
        return self._accepting.converted(
            {parameter_of(table, name): v for table, row in values for name, v in row.items()}
        )

    def end(self, ended: Sequence[Ended]) -> None:
        """Complete tasks whose executions are still the current ones; others stay as they are."""
        for start in range(0, len(ended), MOST_ROWS):
            some = ended[start : start + MOST_ROWS]
            self._ending.execute([self._end(each) for each in some])

    def _end(self, each: Ended) -> Row:
        member, chunk = each.member, each.chunk
        return self._ending.converted(
            {
                "id": member.task_id,
                "generation": member.generation,
                "ended": each.ended,
                "now": each.ended.timestamp(),
                "measured": each.measured,
                "count": chunk.count,
                "failed": chunk.failed,
                "crc32": chunk.crc32,
                "rows": chunk.rows,
                "stored": chunk.count * each.item_bytes
                + (len(member.data) if member.data and chunk.failed else 0),
            }
        )
