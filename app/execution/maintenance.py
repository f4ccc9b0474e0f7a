"""What a process does all the while it is up: it says that it lives and what it can execute, takes
over from dead ones, puts right what errors have left, and removes what is too old.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from hotloop.app.database.threads import StoreThreads, in_store_thread, store_threads
from hotloop.app.errors import NotReadyError, StoreError
from hotloop.app.execution.context import RunContext
from hotloop.app.names import StrategyName, TaskKind
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.options import CacheSource, DbSource
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.nodes import BEAT_SECONDS, NodeStore
from hotloop.app.tasks.spec import SPEC_VERSION
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.upkeep import SteadyClock, adopt_dead, withdraw_incomplete
from hotloop.app.tasks.work_queue import WorkQueue

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 30.0
RETENTION_SECONDS: Final = 60.0
_LAUNCH_SECONDS: Final = 1.0


class Upkeep:
    """One for each process. `close` after the queue was closed."""

    def __init__(self, context: RunContext, queue: WorkQueue, nodes: NodeStore) -> None:
        self._context = context
        self._queue = queue
        self._nodes = nodes
        self._loops: list[asyncio.Task[None]] = []
        # Whatever else waits for the store: a process that says nothing is taken for dead.
        self._heart = StoreThreads(1, "hotloop-heart")
        self._clock: SteadyClock | None = None
        self.failure: str | None = None
        """Why the last heartbeat could not be written; None when it was."""

    async def start(self) -> None:
        """Once everything now, then for ever; removing may take longer, and nobody waits for it.
        Raises StoreError.
        """
        await in_store_thread(self.beat)
        await in_store_thread(self.sweep)
        others, changed = store_threads(), self._context.hosts.changed
        self._loops = [
            asyncio.create_task(_every(BEAT_SECONDS, self.beat, self._heart, early=changed)),
            asyncio.create_task(_every(SWEEP_SECONDS, self.sweep, others)),
            asyncio.create_task(_every(RETENTION_SECONDS, self.remove_old, others, at_once=True)),
        ]

    async def close(self) -> None:
        """This process is no node any more: whatever it has not ended is others' from now on."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._heart.hurry()
        self._heart.hangs = store_threads().hangs
        try:
            # In the thread of the heartbeats, so that a last one does not bring it back.
            await self._heart.run(self._nodes.leave)
        except StoreError as error:
            logger.warning("the others learn by its silence that this node has left: %s", error)

    # What follows blocks, and raises StoreError.

    def beat(self) -> None:
        """Say that this process lives, and take over from those that do not."""
        try:
            if not self._nodes.beat(self._is_able()):
                logger.error("this process was silent for so long that others have taken its work")
                self._nodes.rejoin()
        except StoreError as error:
            self.failure = str(error)
            raise
        self.failure = None
        dead, adopted = adopt_dead(self._nodes, self._queue)
        if adopted:
            logger.warning("%d shards of processes that are gone go on", len(adopted))
        if dead:
            remove_orphans(self._context.store, self._context.folder, self._nodes)

    def _is_able(self) -> bool:
        executes_none = not self._context.settings.background_runs
        return executes_none or self._context.hosts.alive_count > 0

    def sweep(self) -> None:
        """Queue again what an unforeseen error has thrown out of its execution; end what processes
        that are gone have left behind, and remove the files that no task needs any more.
        """
        lost = self._queue.sweep()
        if lost:
            logger.warning("%d shards were held here by nothing; they go on", len(lost))
        remove_orphans(self._context.store, self._context.folder, self._nodes)
        self._context.folder.sweep(self._context.store.needing_files)

    def remove_old(self) -> None:
        """Forget tasks that ended more than HOTLOOP_RETENTION_HOURS ago, with all they had."""
        if self._clock is None:
            self._clock = SteadyClock(self._context.store.engine)
        age = timedelta(hours=self._context.settings.retention_hours)
        now = self._clock.now()
        if now is not None:
            remove_finished(self._context, now - age)


def remove_finished(
    context: RunContext, ended_before: datetime | None = None, client: str | None = None
) -> list[str]:
    """Forget all tasks that have ended, or that ended before a time, or those of a client, with
    their files; returns their ids. Blocks; raises StoreError.
    """
    gone = context.store.delete_finished(ended_before, client)
    for task_id in gone:
        context.folder.remove(task_id)
    return gone


def remove_orphans(store: TaskStore, folder: DataFolder, nodes: NodeStore) -> list[str]:
    """End or forget what only the process that had accepted it could have gone on with, and that
    is dead; returns the ids of these tasks. Blocks; raises StoreError.
    """
    alive = nodes.alive()
    gone = withdraw_incomplete(store.engine, alive)
    for task_id in gone:
        folder.remove(task_id)
    return gone + store.interrupt_orphans(alive.__contains__)


async def _every(
    seconds: float,
    call: Callable[[], None],
    threads: StoreThreads,
    *,
    at_once: bool = False,
    early: asyncio.Event | None = None,
) -> None:
    """At a fixed rate, whatever the calls take, and when `early` is set; one that fails is made
    again the next time.
    """
    early = early or asyncio.Event()
    due = time.monotonic() - (seconds if at_once else 0)
    while True:
        due = max(due + seconds, time.monotonic())
        with suppress(TimeoutError):
            await asyncio.wait_for(early.wait(), due - time.monotonic())
            early.clear()
            due = time.monotonic()
        try:
            await threads.run(call)
        except StoreError as error:
            logger.warning("%s; again in %g s", error, seconds)
        except Exception:
            logger.exception("upkeep met a fault; again in %g s", seconds)


async def take_work(context: RunContext, nodes: NodeStore, queue: WorkQueue) -> None:
    """Have the queue take work as soon as a run host has said which kernels it has. A node that
    cannot execute a task would fail it at once, be idle again at once, and so fail one task after
    the other that its neighbours could have executed.
    """
    while True:
        try:
            reports = await context.hosts.kernels()
            able = abilities(reports, context.settings, context.memory.run_bytes)
            await in_store_thread(nodes.publish, able)
        except (NotReadyError, StoreError) as error:
            logger.debug("this node takes no work yet: %s", error)
            await asyncio.sleep(_LAUNCH_SECONDS)
        else:
            queue.launch(able)
            return


def abilities(reports: Sequence[KernelReport], settings: Settings, run_bytes: int) -> Abilities:
    """What a process can do, whose run hosts have these kernels and whose runs may use so many
    bytes each.
    """
    available = [report for report in reports if report.available]
    names = {f"kernel:{report.workload}/{report.kernel}" for report in available}
    names |= {f"workload:{report.workload}" for report in available}
    names |= {f"strategy:{name}" for name in StrategyName}
    names |= {f"kind:{kind}" for kind in TaskKind}
    names |= {f"spec:{version}" for version in range(SPEC_VERSION + 1)}
    own = set(settings.sources)
    dbs = own | set(DbSource) - ({DbSource.PINOT} if settings.pinot_url is None else set())
    caches = own | set(CacheSource) - ({CacheSource.REDIS} if settings.redis_url is None else set())
    names |= {f"db:{source}" for source in dbs} | {f"cache:{source}" for source in caches}
    return Abilities(frozenset(names), run_bytes)
