"""Whether the clock can be believed: a clock that jumps ahead must not make every task old.

The time of the last look is kept in the database, so that a jump is noticed between two looks of
one process, and between two processes of which the second starts with a wrong clock. A long stop
of the service looks the same; it only delays the removal of old tasks by a day.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    Column,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    func,
    insert,
    select,
    update,
)

from hotloop.app.tasks.engine import alone, writing
from hotloop.app.tasks.nodes import now_of
from hotloop.app.tasks.tables import tasks

logger = logging.getLogger(__name__)

STEP_SECONDS: Final = 600.0
"""Time between two looks up to which the clock has not jumped; looks come once a minute."""

DOUBT_SECONDS: Final = 86_400.0
"""Time for which the clock has to go on steadily after a jump before it is believed again."""

_metadata: Final = MetaData()

_clock: Final = Table(
    "clock",
    _metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # Unix seconds of the database's clock.
    Column("seen_at", Float(53), nullable=False),
    Column("doubted_until", Float(53), nullable=False),
)
_ID: Final = 1


class SteadyClock:
    """The database's clock, believed as long as it moves on steadily. The methods block, and raise
    StoreError when the database cannot be used.
    """

    def __init__(self, engine: Engine) -> None:
        """`engine` is that of a TaskStore; makes the table where it is missing."""
        self._engine = engine
        with writing(engine) as connection:
            alone(connection)
            _metadata.create_all(connection)

    def now(self) -> datetime | None:
        """The time; None while it is not to be believed. To be called about once a minute."""
        with writing(self._engine) as connection:
            alone(connection)
            now = connection.scalar(select(now_of(connection.dialect))) or 0.0
            row = connection.execute(select(_clock.c.seen_at, _clock.c.doubted_until)).first()
            if row is None:
                # A store of an earlier version: its newest task is all that it knows of the time.
                newest = connection.scalar(select(func.max(tasks.c.created_at)))
                seen_at, doubted_until = newest.timestamp() if newest else now, 0.0
                connection.execute(insert(_clock).values(id=_ID, seen_at=now, doubted_until=0.0))
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
                doubted_until = 0.0  # put right: nothing is older by that
            connection.execute(update(_clock).values(seen_at=now, doubted_until=doubted_until))
        return None if now < doubted_until else datetime.fromtimestamp(now, UTC)
