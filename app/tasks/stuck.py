"""Stuck shards: their node is alive, and they make no progress. An idle node takes them over.

Each node watches by its own clock, so that the clocks of machines may differ. An item in work that
passes its steps is progress, too. A shard that only is slow loses a batch by being taken over, but
no result: the new execution continues after the stored ones, and all that the earlier one still
writes is refused.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Engine, bindparam, select

from hotloop.app.database.engine import reading, writing
from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.tasks import rows
from hotloop.app.tasks.claims import HELD, MAY_FIT, Claim
from hotloop.app.tasks.model import Shard, ShardRef, Task
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.tables import shards

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0
"""Longest pause between two looks of an idle node."""

MOST_BEGINNINGS: Final = rows.MAX_BEGINNINGS // 2
"""A shard that has begun more often without progress stays where it is, so that being taken over
never fails its task."""

_LOOKS: Final = 10
"""Least number of looks before a shard counts as stuck."""

_PREDICTIONS: Final = 2.0
"""Factor of a prediction up to which the next results may take."""

Predict = Callable[[Task, Shard], float | None]
"""Predicts the seconds until a shard's next results are stored; None if this node cannot."""

_PROGRESS: Final = (
    *(shards.c.node, shards.c.attempt, shards.c.items_processed, shards.c.failed_items),
    shards.c.details["in_work"],
)
_HELD: Final = select(
    *(shards.c.task_id, shards.c.shard, shards.c.generation, shards.c.needs),
    *(shards.c.beginnings, *_PROGRESS),
).where(*HELD, shards.c.node != bindparam("me"))
_HELD_AND_FIT: Final = _HELD.where(*MAY_FIT)
_HELD_SHARD: Final = _HELD.where(
    shards.c.task_id == bindparam("of_task"), shards.c.shard == bindparam("number")
)


@dataclass(slots=True)
class _Seen:
    """A shard as it was seen since its last progress."""

    ref: ShardRef
    beginnings: int
    progress: tuple[Any, ...]
    seconds: float = 0.0
    predicted: float | None = None


class StuckShards:
    """The watch of one node over the shards of all others. Not for several threads at once."""

    def __init__(
        self,
        engine: Engine,
        node: str,
        least_seconds: float,
        predict: Predict,
        taken: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A shard is stuck after `least_seconds`, above 0, and twice its prediction; each beginning
        without progress doubles that. `taken` is called for each shard that is taken over.
        """
        self._engine = engine
        self._node = node
        self._least_seconds = least_seconds
        self._predict = predict
        self._taken = taken
        self._clock = clock
        self._looked = clock()
        self._seen: dict[ShardRef, _Seen] = {}

    def take(self, able: Abilities, executed: Container[ShardRef] = ()) -> Claim | None:
        """Begin the execution, by this node, of a stuck shard that a node with these abilities can
        execute, except those in `executed`. Looks at most every LOOK_SECONDS. Blocks; raises
        StoreError.
        """
        passed = self._clock() - self._looked
        if passed < min(LOOK_SECONDS, self._least_seconds / _LOOKS):
            return None
        self._looked += passed
        # A node that was frozen or busy itself must look again before it counts so long a time.
        self._look(able, min(passed, self._least_seconds / 2))
        for seen in sorted(self._seen.values(), key=lambda each: -each.seconds):
            if seen.ref not in executed and self._is_stuck(seen):
                claim = self._take(seen)
                if claim is not None:
                    return claim
        return None

    def _look(self, able: Abilities, seconds: float) -> None:
        before, self._seen = self._seen, {}
        asked = {"me": self._node, "unfit": list(able.unfit), "run_bytes": able.run_bytes}
        with reading(self._engine) as connection:
            found = connection.execute(_HELD_AND_FIT, asked).all()
        for task_id, shard, generation, needs, beginnings, *progress in found:
            if not able.has(needs):
                continue
            ref = ShardRef(task_id, shard, generation)
            seen = before.get(ref)
            if seen is None or seen.progress != tuple(progress):
                seen = _Seen(ref, beginnings, tuple(progress))
            else:
                seen.seconds += seconds
            self._seen[ref] = seen

    def _is_stuck(self, seen: _Seen) -> bool:
        doubled = 2.0 ** max(0, seen.beginnings - 1)
        if seen.beginnings > MOST_BEGINNINGS or seen.seconds < self._least_seconds * doubled:
            return False
        if seen.predicted is None:
            with reading(self._engine) as connection:
                try:
                    task = rows.to_task(rows.task_row(connection, seen.ref.task_id))
                    shard = rows.to_shard(rows.shard_row(connection, seen.ref))
                except (TaskNotFoundError, TaskConflictError):
                    return False
            seen.predicted = self._predict(task, shard)
        return (
            seen.predicted is not None and seen.seconds >= _PREDICTIONS * seen.predicted * doubled
        )

    def _take(self, seen: _Seen) -> Claim | None:
        """Begin the shard, unless it has made progress, or ended, or another node took it over."""
        ref, (holder, *_) = seen.ref, seen.progress
        asked = {"me": self._node, "of_task": ref.task_id, "number": ref.shard}
        with writing(self._engine) as connection:
            try:
                rows.lock_task(connection, ref.task_id)
                row = connection.execute(_HELD_SHARD, asked).first()
                if row is None or tuple(row)[-len(_PROGRESS) :] != seen.progress:
                    return None
                task = rows.task_row(connection, ref.task_id)
                shard = rows.begin_shard(connection, task, ref, self._node)
            except (TaskNotFoundError, TaskConflictError):
                return None
        del self._seen[ref]
        self._taken()
        logger.warning(
            "shard %d of %s is taken over from the node %s, where it made no progress for %.0f s "
            "(beginning %d without any; predicted seconds to its next results: %.1f)",
            *(ref.shard, ref.task_id, holder, seen.seconds, shard.beginnings, seen.predicted),
        )
        return Claim(rows.to_task(task), shard)
