"""The queue in the database: which shards wait, which nodes hold the others, and claims.

A shard is in the queue while `queued_at` is set, from its acceptance to its end. It is held by
`node`, or waits when that is null; a shard that is put back keeps its place. Claiming a shard
begins its next execution in the same transaction, so that nothing can be lost between the two.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    Connection,
    Engine,
    Float,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.engine import alone, reading, writing
from hotloop.app.errors import StoreError, TaskConflictError, TaskNotFoundError, UnreadableTaskError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks import rows
from hotloop.app.tasks.chunks import result_columns
from hotloop.app.tasks.model import UNFINISHED, Shard, ShardRef, Task, utc_now
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.small import Member, SmallClaims
from hotloop.app.tasks.tables import inputs, shards, tasks

logger = logging.getLogger(__name__)

_QUEUED: Final = shards.c.queued_at.is_not(None)
HELD: Final = _QUEUED, shards.c.node.is_not(None)
_REF: Final = shards.c.task_id, shards.c.shard, shards.c.generation
# In the order of the index, with `node`: PostgreSQL does not see that `node` is null in all rows.
_IN_ORDER: Final = (
    *(shards.c.node, shards.c.rank, shards.c.queued_at),
    *(shards.c.task_id, shards.c.shard),
)
_NOW: Final = bindparam("now", type_=Float(53))
# A pause longer than the longest is ignored: a clock has jumped, or another machine's is ahead.
_IS_DUE: Final = or_(
    shards.c.retry_at.is_(None),
    shards.c.retry_at <= _NOW,
    shards.c.retry_at > _NOW + rows.LONGEST_PAUSE_SECONDS,
)
MAY_FIT: Final = (
    or_(shards.c.needs.is_(None), shards.c.needs.not_in(bindparam("unfit", expanding=True))),
    or_(shards.c.needs_bytes.is_(None), shards.c.needs_bytes <= bindparam("run_bytes")),
)
_WAITS: Final = _QUEUED, shards.c.node.is_(None)
_SMALL_KEY: Final = case((shards.c.attempt == 0, shards.c.small)).label("small")
_FIRST: Final = (
    select(*_REF, shards.c.needs, _SMALL_KEY)
    .where(*_WAITS, _IS_DUE, *MAY_FIT)
    .order_by(*_IN_ORDER)
    .limit(1)
)
_INPUT: Final = and_(inputs.c.task_id == tasks.c.task_id, inputs.c.part == 0)
_ALIKE: Final = (
    select(shards.c.task_id, shards.c.generation, tasks.c.total_items, inputs.c.data)
    .select_from(shards.join(tasks).outerjoin(inputs, _INPUT))
    .where(*_WAITS, shards.c.attempt == 0, shards.c.small == bindparam("small"))
    .order_by(*_IN_ORDER)
    .limit(bindparam("most"))
    .with_for_update(of=tasks, skip_locked=True)
)
"""Selection of waiting small tasks with a key, and the input of each."""


class First(NamedTuple):
    """The first waiting shard that a node may begin."""

    ref: ShardRef
    needs: str | None
    small: str | None
    """The key of a small task that may be computed with others."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A task and its shard whose execution has begun; the node that got the claim executes it."""

    task: Task
    shard: Shard

    @property
    def refs(self) -> list[ShardRef]:
        return [self.shard.ref]


def claim(
    engine: Engine, node: str, in_all: int | None = None, abilities: Abilities | None = None
) -> Claim | None:
    """Begin the execution, by `node`, of the first waiting shard that a node with these `abilities`
    can execute (None: all). Returns None when there is no such shard, or when all nodes together
    hold `in_all` shards already. A shard that cannot be executed fails with its task, and the next
    one is tried. Blocks; raises StoreError.
    """
    found = claim_some(engine, node, in_all, abilities, 1)
    assert not isinstance(found, SmallClaims)
    return found


def claim_some(
    engine: Engine, node: str, in_all: int | None, abilities: Abilities | None, most: int
) -> Claim | SmallClaims | None:
    """Do the same as `claim`; but if the first waiting shard is a small task that was never begun,
    begin up to `most` tasks like it.
    """
    able = Abilities() if abilities is None else abilities
    with reading(engine) as connection:
        first = _first(connection, able)
    while first is not None:
        try:
            with writing(engine) as connection:
                room = most
                if in_all is not None:
                    alone(connection)  # or two nodes count at once, and both take the last place
                    held = connection.scalar(select(func.count()).where(*HELD)) or 0
                    room = min(most, in_all - held)
                    if room <= 0:
                        return None
                first = _first(connection, able)
                if first and room > 1 and first.small is not None:
                    return _begin_small(connection, first.small, node, room)
                if first and (got := _begin(connection, first.ref.task_id, node, able)):
                    return got
        except (StoreError, IntegrityError):
            raise
        except Exception as fault:  # fails only this task: the queue must go on
            if first is None:
                raise
            logger.exception("the shard %s cannot be begun; its task fails", first.ref)
            error = UnreadableTaskError(f"beginning it met an unexpected {type(fault).__name__}")
            with writing(engine) as connection:
                _set_aside(connection, first.ref.task_id, error)
    return None


def _first(connection: Connection, able: Abilities, task_id: str | None = None) -> First | None:
    """Return the first waiting shard, of all tasks or of one, that a node with these abilities may
    begin.
    """
    wanted = _FIRST if task_id is None else _FIRST.where(shards.c.task_id == task_id)
    while True:
        asked = {"now": time.time(), "unfit": list(able.unfit), "run_bytes": able.run_bytes}
        row = connection.execute(wanted, asked).first()
        if row is None:
            return None
        *ref, needs, small = row
        if able.has(needs):
            return First(ShardRef(*ref), needs, small)


def _begin(connection: Connection, task_id: str, node: str, able: Abilities) -> Claim | None:
    """Begin the task's first waiting shard. Return None if other nodes got all of its shards
    meanwhile, if this node cannot execute it, or if no node can: then the task has failed.
    """
    try:
        rows.lock_task(connection, task_id)
    except TaskNotFoundError:
        return None
    first = _first(connection, able, task_id)
    if first is None:
        return None
    ref = first.ref
    row = rows.task_row(connection, task_id)
    task = rows.to_task(row)
    if first.needs is None and not _fits(connection, task, able):
        return None
    try:
        return Claim(task, rows.begin_shard(connection, row, ref, node))
    except TaskConflictError as error:
        _set_aside(connection, task_id, error)
        return None


def _begin_small(connection: Connection, key: str, node: str, most: int) -> SmallClaims | None:
    """Begin the first waiting small tasks with a key. Return None if other nodes got all of them
    meanwhile.
    """
    found = connection.execute(_ALIKE, {"small": key, "most": most}).all()
    ids = [row.task_id for row in found]
    if not ids:
        return None
    task = rows.to_task(rows.task_row(connection, ids[0]))
    begun = update(shards).where(shards.c.task_id.in_(ids), *_WAITS, shards.c.attempt == 0)
    values = {"status": TaskStatus.RUNNING, "node": node, "attempt": 1, "beginnings": 1}
    if connection.execute(begun.values(**values)).rowcount != len(ids):
        mine = select(shards.c.task_id).where(
            shards.c.task_id.in_(ids), shards.c.node == node, shards.c.attempt == 1
        )
        ids = list(connection.scalars(mine))
    columns = [list(column) for column in result_columns(task.workload)]
    values = {"status": TaskStatus.RUNNING, "owner": node, "result_columns": columns}
    start = func.coalesce(tasks.c.start_time, bindparam("now", utc_now(), tasks.c.start_time.type))
    running = update(tasks).where(tasks.c.task_id.in_(ids))
    connection.execute(running.values(start_time=start, **values))
    taken = set(ids)
    members = [Member(*row) for row in found if row.task_id in taken]
    return SmallClaims(task, members) if members else None


def _fits(connection: Connection, task: Task, able: Abilities) -> bool:
    """Return True if a node can execute an older version's task, which has no stored needs. If not,
    store the needs, so that the queue skips the task from now on.
    """
    needs = rows.task_needs(task)
    if needs is None or able.fits(needs):
        return True
    kept = {"needs": needs.text, "needs_bytes": needs.memory_bytes}
    connection.execute(update(shards).where(shards.c.task_id == task.task_id).values(**kept))
    return False


def _set_aside(connection: Connection, task_id: str, error: Exception) -> None:
    """Fail a task that cannot be executed, in any state, so that it leaves the queue."""
    failed: dict[str, Any] = {"error_code": type(error).__name__, "error_message": str(error)}
    rows.end_shards(connection, task_id, TaskStatus.FAILED, failed)
    out = {"status": TaskStatus.FAILED, "queued_at": None, **failed}
    connection.execute(update(shards).where(shards.c.task_id == task_id, _QUEUED).values(**out))
    ended = {"status": TaskStatus.FAILED, "end_time": utc_now(), **failed}
    rows.update_task(connection, task_id, UNFINISHED, ended)


def put_back(
    engine: Engine, node: str, but: Collection[ShardRef] = (), *, counts_as: int = 1
) -> list[ShardRef]:
    """Let all shards that `node` holds wait for another execution, except those in `but`; returns
    them. An execution that still runs can store nothing once the next one has begun. The last
    execution of each counts as `counts_as` beginnings without progress; 0 if its process has
    stopped on purpose. Blocks; raises StoreError.
    """
    is_held = _QUEUED, shards.c.node == node
    with reading(engine) as connection:
        held = {ShardRef(*row) for row in connection.execute(select(*_REF).where(*is_held))}
    put = []
    for ref in sorted(held.difference(but)):
        with writing(engine) as connection:
            try:
                rows.lock_task(connection, ref.task_id)
            except TaskNotFoundError:
                continue
            freed = update(shards).where(*rows.is_shard(ref), *is_held)
            freed = freed.values(node=None, **rows.ended_beginning(counts_as))
            if connection.execute(freed).rowcount:
                put.append(ref)
    return put


def count_queued(engine: Engine) -> dict[str, int]:
    """Count the shards in the queue: those `waiting`, and those `held` by a node. Blocks; raises
    StoreError.
    """
    waits = shards.c.node.is_(None)
    counted = select(waits, func.count()).where(_QUEUED).group_by(waits)
    with reading(engine) as connection:
        found = {bool(waiting): count for waiting, count in connection.execute(counted)}
    return {"waiting": found.get(True, 0), "held": found.get(False, 0)}


def holders(connection: Connection) -> set[str]:
    """Return the nodes that hold a shard."""
    return set(connection.scalars(select(shards.c.node).where(*HELD).distinct()))
