"""Upkeep of tasks that several processes share: work of dead nodes is adopted, tasks that will
never be complete are withdrawn, and old ones are removed only while the clock can be believed.

Everything here blocks, and raises StoreError when the database cannot be used.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Engine, delete, exists, func, insert, select, update

from hotloop.app.database.engine import alone, reading, writing
from hotloop.app.names import TaskType
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.nodes import DEAD_SECONDS, NodeStore, now_of
from hotloop.app.tasks.tables import clock, shards, tasks
from hotloop.app.tasks.work_queue import WorkQueue

logger = logging.getLogger(__name__)

STEP_SECONDS: Final = 600.0
"""Time between two looks up to which the clock has not jumped; looks come once a minute."""

DOUBT_SECONDS: Final = 86_400.0
"""Time for which the clock must move steadily after a jump before it is believed again."""

_CLOCK_ID: Final = 1
_IS_INCOMPLETE: Final = (
    tasks.c.task_type == TaskType.BACKGROUND,
    ~exists().where(shards.c.task_id == tasks.c.task_id),
)


def adopt_dead(
    nodes: NodeStore, queue: WorkQueue, after_seconds: float = DEAD_SECONDS
) -> tuple[list[str], list[ShardRef]]:
    """Put back everything that dead nodes hold; returns those nodes, and the shards put back.

    To be called at every heartbeat. Of several processes that call this, one takes each node. If
    that process dies before it is done, the next one does the rest.
    """
    dead, unknown = nodes.look(after_seconds)
    claimed = [node.node_id for node in dead if nodes.claim(node)]
    claimed += [node_id for node_id in unknown if nodes.claim_unknown(node_id)]
    adopted: list[ShardRef] = []
    for node_id in claimed:
        adopted += queue.adopt(node_id)
        nodes.remove(node_id)
    return claimed, adopted


def withdraw_incomplete(engine: Engine, alive: Container[str]) -> list[str]:
    """Remove the tasks whose items will never be complete, as the process that received them is not
    among the nodes `alive`; returns their ids. No client was told that they were accepted.
    """
    incomplete = select(tasks.c.task_id, tasks.c.owner).where(*_IS_INCOMPLETE)
    with reading(engine) as connection:
        found = connection.execute(incomplete).all()
    gone = [row.task_id for row in found if row.owner not in alive]
    for task_id in gone:
        with writing(engine) as connection:
            connection.execute(delete(tasks).where(tasks.c.task_id == task_id, *_IS_INCOMPLETE))
    return gone


class SteadyClock:
    """The database's clock, believed as long as it moves on steadily: a clock that jumps ahead must
    not make every task old.

    The time of the last look is kept in the database, so that a jump is noticed between two looks
    of one process, and between two processes of which the second starts with a wrong clock. A long
    stop of the service looks the same; it only delays the removal of old tasks by a day.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` is that of a TaskStore."""
        self._engine = engine

    def now(self) -> datetime | None:
        """The time; None while it cannot be believed. To be called about once a minute."""
        with writing(self._engine) as connection:
            alone(connection)
            now = connection.scalar(select(now_of(connection.dialect))) or 0.0
            row = connection.execute(select(clock.c.seen_at, clock.c.doubted_until)).first()
            if row is None:
                # In a store of an earlier version only the newest task tells something of the time.
                newest = connection.scalar(select(func.max(tasks.c.created_at)))
                seen_at, doubted_until = newest.timestamp() if newest else now, 0.0
                first = {"id": _CLOCK_ID, "seen_at": now, "doubted_until": 0.0}
                connection.execute(insert(clock).values(first))
            else:
                seen_at, doubted_until = row
            step = now - seen_at
            if step > STEP_SECONDS:
                doubted_until = now + DOUBT_SECONDS
                logger.warning(
                    "the clock is %.0f s later than when it was last looked at: it jumped, or the "
                    "service was stopped; old tasks are not removed for a day",
                    step,
                )
            elif step < -STEP_SECONDS:
                doubted_until = 0.0  # the clock was put right, and no task is older by that
            connection.execute(update(clock).values(seen_at=now, doubted_until=doubted_until))
        return None if now < doubted_until else datetime.fromtimestamp(now, UTC)
