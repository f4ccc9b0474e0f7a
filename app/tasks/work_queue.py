"""The durable queue of background work: accepted work is executed even if processes die.

The queue is the rows of the shards, see `app.tasks.claims`, and any number of processes may share
it. Work begins in about the order in which it was accepted; one node at a time holds a shard. A
process that was taken for dead may not know that yet: the shard's row (`Shard.attempt`) refuses
what it still writes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from hotloop.app.errors import StoreError
from hotloop.app.tasks.claims import Claim, claim_some, put_back
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.small import SmallClaims
from hotloop.app.tasks.stuck import StuckShards

logger = logging.getLogger(__name__)

_END_SECONDS: Final = 1.0
_LEAST_PAUSE_SECONDS: Final = 0.5
"""Pause after a claim that failed."""
_UNABLE_PAUSE_SECONDS: Final = 0.25
"""Pause between two checks of whether this process can execute anything; they ask no database."""


class HandOver(BaseException):
    """Raised by an execution that ends before its work does, because its process stops. The node
    holds the work until the queue is closed, or another process adopts it.
    """


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """Bounds of the work that this process takes from the queue."""

    concurrency: int
    """Shards that this process executes at once; 0 if it only accepts tasks."""
    total_concurrency: int | None = None
    """Shards that all nodes together execute at once; all nodes must have the same limit."""
    most_small: int = 1
    """Small tasks that it takes at once."""
    polling_seconds: float = 0.25
    """Pause between two checks for work that other processes have accepted or put back."""


class WorkQueue:
    """This process's end of the queue. All methods may be called from any thread; those that block
    say so, and raise StoreError when the database cannot be used.
    """

    def __init__(
        self,
        engine: Engine,
        node: str,
        execute: Callable[[Claim | SmallClaims], None],
        options: QueueOptions,
        can_execute: Callable[[], bool] = lambda: True,
        stuck: StuckShards | None = None,
    ) -> None:
        """`engine` is that of a TaskStore; `node` is the id of this process. `execute` is called in
        a thread for each claim, and must end the shard in the store; a shard that it did not end,
        whether it returned or raised, is put back by `sweep`. While `can_execute` returns False,
        this process takes no work, and leaves it to other nodes. While no work waits, it takes over
        the `stuck` shards of other nodes.
        """
        self._engine = engine
        self._node = node
        self._execute = execute
        self._options = options
        self._abilities = Abilities()
        self._can_execute = can_execute
        self._stuck = stuck
        self._looking = threading.Lock()
        """Held by the one idle thread that looks for work."""
        self._claiming = threading.Lock()
        """Held while the shards that this node holds may differ from those that it executes."""
        self._changed = threading.Condition()
        self._running: set[ShardRef] = set()
        self._woken = threading.Event()
        self._closing = threading.Event()
        self._failing = False

    def launch(self, abilities: Abilities | None = None) -> None:
        """Begin to take work that a node with these `abilities` can execute (None: all)."""
        self.set_abilities(Abilities() if abilities is None else abilities)
        self._closing.clear()
        for number in range(self._options.concurrency):
            name = f"hotloop-queue-{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def set_abilities(self, abilities: Abilities) -> None:
        """Take only work that a node with these `abilities` can execute, from now on."""
        self._abilities = abilities
        self.wake()

    def wake(self) -> None:
        """Look for work now, as some was accepted or put back."""
        self._woken.set()

    def adopt(self, node: str) -> list[ShardRef]:
        """Put back the shards that a dead node holds, and return them. Blocks."""
        adopted = put_back(self._engine, node)
        if adopted:
            self.wake()
        return adopted

    def sweep(self) -> list[ShardRef]:
        """Put back the shards that this node holds and does not execute, after an unforeseen error,
        or as the database was lost during their claim. Returns them. Blocks.
        """
        with self._claiming:
            lost = put_back(self._engine, self._node, self._executed())
        if lost:
            self.wake()
        return lost

    def take_no_more(self) -> None:
        """Begin nothing from now on; to be called before running executions are told to stop."""
        self._closing.set()
        self._woken.set()

    def close(self) -> None:
        """Take no more work, and put back the shards that are held. Executions should have ended,
        or raised HandOver; they get another second. Blocks. If the database cannot be used now, the
        node that adopts this one puts them back.
        """
        self.take_no_more()
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running, _END_SECONDS):
                logger.warning("%d shards did not stop in time", len(self._running))
        try:
            with self._claiming:
                put_back(self._engine, self._node, counts_as=0)
        except StoreError as error:
            logger.warning(
                "shards of this node are not put back, so other nodes will adopt them: %s", error
            )

    def _executed(self) -> set[ShardRef]:
        with self._changed:
            return set(self._running)

    def _work(self) -> None:
        while (claimed := self._next()) is not None:
            refs = claimed.refs
            try:
                self._execute(claimed)
            except HandOver:
                pass
            except Exception:
                logger.exception("the work %s met a fault", refs[0])
            finally:
                with self._changed:
                    self._running.difference_update(refs)
                    self._changed.notify_all()

    def _next(self) -> Claim | SmallClaims | None:
        """Wait for the next claim; None when no more work is taken."""
        with self._looking:
            while not self._closing.is_set():
                self._woken.clear()
                if self._closing.is_set():
                    return None  # the queue was closed just before the event was cleared
                pause = self._options.polling_seconds
                if not self._can_execute():
                    self._woken.wait(min(pause, _UNABLE_PAUSE_SECONDS))
                    continue
                claimed = self._claim()
                if claimed is not None:
                    return claimed
                self._woken.wait(max(pause, _LEAST_PAUSE_SECONDS) if self._failing else pause)
        return None

    def _claim(self) -> Claim | SmallClaims | None:
        try:
            with self._claiming:
                if self._failing:  # the last claim may have succeeded, and its answer was lost
                    put_back(self._engine, self._node, self._executed(), counts_as=0)
                    self._failing = False
                if self._closing.is_set():
                    return None
                in_all = self._options.total_concurrency
                asked = self._engine, self._node, in_all, self._abilities
                claimed = claim_some(*asked, self._options.most_small)
                if claimed is None and self._stuck is not None:
                    claimed = self._stuck.take(self._abilities, self._executed())
                if claimed is not None:
                    with self._changed:
                        self._running.update(claimed.refs)
                return claimed
        except StoreError as error:
            if not self._failing:
                logger.warning("no work can be taken: %s; tried again until it can", error)
        except Exception:
            logger.exception("looking for work met a fault")
        self._failing = True
        return None
