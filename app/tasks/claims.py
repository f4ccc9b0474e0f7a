"""The queue in the database: which shards wait, who holds the others, and who gets the next.

A shard is in the queue while `queued_at` is set, from its acceptance to its end, and is held by
`node`, or waits when there is none. So what was held and is put back has its old place again.
Claiming a shard begins its next execution: there is nothing between the two that could be lost.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import Connection, Engine, RowMapping, func, select, update

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.engine import alone, reading, writing
from app.tasks.model import Shard, ShardRef, Task, utc_now
from app.tasks.rows import lock_task, move_task, task_row
from app.tasks.shard_rows import begin_shard, end_shards
from app.tasks.tables import shards

_WAITING: Final = shards.c.queued_at.is_not(None), shards.c.node.is_(None)
_HELD: Final = shards.c.queued_at.is_not(None), shards.c.node.is_not(None)
_REF: Final = shards.c.task_id, shards.c.shard, shards.c.generation
# As in the index, with `node`: PostgreSQL does not see that it is the same in all that wait.
_IN_ORDER: Final = shards.c.node, shards.c.queued_at, shards.c.task_id, shards.c.shard
_FIRST: Final = select(*_REF).where(*_WAITING).order_by(*_IN_ORDER).limit(1)


@dataclass(frozen=True, slots=True)
class Claim:
    """A shard whose execution has begun, by whoever got this; and its task."""

    task: Task
    shard: Shard


def claim(engine: Engine, node: str, in_all: int | None = None) -> Claim | None:
    """Begin the execution of the first shard that waits, for `node`; None when none does, or
    when all nodes together hold `in_all` already. Blocks; raises StoreError.
    """
    with reading(engine) as connection:
        first = connection.execute(_FIRST).first()
    while first is not None:
        with writing(engine) as connection:
            if in_all is not None:
                alone(connection)  # or two count at once, and both take the last place
                if (connection.scalar(select(func.count()).where(*_HELD)) or 0) >= in_all:
                    return None
            first = connection.execute(_FIRST).first()
            if first is not None and (got := _begin(connection, ShardRef(*first), node)):
                return got
    return None


def _begin(connection: Connection, first: ShardRef, node: str) -> Claim | None:
    """None when others got it meanwhile; and when it cannot be executed: its task has failed."""
    try:
        lock_task(connection, first.task_id)  # everybody locks a task first, and its shards then
    except TaskNotFoundError:
        return None
    of_task = _FIRST.where(shards.c.task_id == first.task_id)
    row = connection.execute(of_task).first()
    if row is None:
        return None
    task = task_row(connection, first.task_id)
    try:
        return Claim(_task(task), begin_shard(connection, task, ShardRef(*row), node))
    except TaskConflictError as error:
        failed = {"error_code": type(error).__name__, "error_message": str(error)}
        end_shards(connection, first.task_id, TaskStatus.FAILED, failed)
        move_task(connection, first.task_id, TaskStatus.FAILED, {"end_time": utc_now(), **failed})
        return None


def put_back(engine: Engine, node: str, but: Collection[ShardRef] = ()) -> list[ShardRef]:
    """Have all that `node` holds wait for another execution, `but` these; returns it. What still
    executes it can store nothing once that has begun. Blocks; raises StoreError.
    """
    with reading(engine) as connection:
        wanted = select(*_REF).where(shards.c.queued_at.is_not(None), shards.c.node == node)
        held = [ShardRef(*row) for row in connection.execute(wanted)]
    put = []
    for ref in sorted(set(held).difference(but)):
        same = shards.c.task_id == ref.task_id, shards.c.shard == ref.shard
        still = shards.c.queued_at.is_not(None), shards.c.node == node
        with writing(engine) as connection:
            try:
                lock_task(connection, ref.task_id)
            except TaskNotFoundError:
                continue
            freed = update(shards).where(*same, *still).values(node=None)
            if connection.execute(freed).rowcount:
                put.append(ref)
    return put


def count_queued(engine: Engine) -> dict[str, int]:
    """Shards in the queue: those `waiting`, and those `held` by a node. Blocks; raises
    StoreError.
    """
    waits = shards.c.node.is_(None)
    counted = select(waits, func.count()).where(shards.c.queued_at.is_not(None)).group_by(waits)
    with reading(engine) as connection:
        found = {bool(waiting): count for waiting, count in connection.execute(counted)}
    return {"waiting": found.get(True, 0), "held": found.get(False, 0)}


def holders(connection: Connection) -> set[str]:
    """The nodes that hold something."""
    return set(connection.scalars(select(shards.c.node).where(*_HELD).distinct()))


def _task(row: RowMapping) -> Task:
    return Task(**{field.name: row[field.name] for field in fields(Task)})
