"""Periodic work of each process: publish heartbeats and abilities, take over the shards of dead
processes, clean up after errors, and delete old tasks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
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
from hotloop.app.sources.rows import media_types
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.needs import Abilities, version_ability
from hotloop.app.tasks.nodes import BEAT_SECONDS, NodeStore
from hotloop.app.tasks.spec import SPEC_VERSION
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.upkeep import SteadyClock, adopt_dead, withdraw_incomplete
from hotloop.app.tasks.work_queue import WorkQueue
from hotloop.kernels import declared_workloads

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 30.0
RETENTION_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0
"""Pause between two checks of the abilities of this node, which read no file and no database."""


class Upkeep:
    """The periodic work of this process. Close the queue before this."""

    def __init__(self, context: RunContext, queue: WorkQueue, nodes: NodeStore) -> None:
        self._context = context
        self._queue = queue
        self._nodes = nodes
        self._loops: list[asyncio.Task[None]] = []
        # A thread of its own: a process whose heartbeats wait for other calls is taken for dead.
        self._heart = StoreThreads(1, "hotloop-heart")
        self._clock: SteadyClock | None = None
        self.failure: str | None = None
        """The reason why the last heartbeat could not be written; None if it was written."""

    async def start(self) -> None:
        """Beat and sweep once, then repeat all work in the background. Deleting old tasks may take
        long, so the start does not wait for it. Raises StoreError.
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
        """Stop, and remove this process from the nodes, so that others take over its shards."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._heart.hurry()
        self._heart.hangs = store_threads().hangs
        try:
            # In the heartbeats' thread, so that no late heartbeat adds this node again.
            await self._heart.run(self._nodes.leave)
        except StoreError as error:
            logger.warning("other nodes notice only by timeout that this node has left: %s", error)

    # The methods below block, and raise StoreError.

    def beat(self) -> None:
        """Write a heartbeat, and take over the shards of dead processes."""
        try:
            if not self._nodes.beat(self._is_able()):
                logger.error("no heartbeat for so long that other processes took over the work")
                self._nodes.rejoin()
        except StoreError as error:
            self.failure = str(error)
            raise
        self.failure = None
        dead, adopted = adopt_dead(self._nodes, self._queue)
        if adopted:
            logger.warning("took over %d shards of dead processes", len(adopted))
        if dead:
            remove_orphans(self._context.store, self._context.folder, self._nodes)

    def _is_able(self) -> bool:
        executes_none = not self._context.settings.background_runs
        return executes_none or self._context.hosts.alive_count > 0

    def sweep(self) -> None:
        """Queue again each shard whose execution here ended by a fault, end the tasks that only a
        dead process could execute, and remove files that no task needs.
        """
        lost = self._queue.sweep()
        if lost:
            logger.warning("queued %d shards again that no execution held", len(lost))
        remove_orphans(self._context.store, self._context.folder, self._nodes)
        self._context.folder.sweep(self._context.store.needing_files)

    def remove_old(self) -> None:
        """Delete tasks that ended more than HOTLOOP_RETENTION_HOURS ago, with all their data."""
        if self._clock is None:
            self._clock = SteadyClock(self._context.store.engine)
        age = timedelta(hours=self._context.settings.retention_hours)
        now = self._clock.now()
        if now is not None:
            remove_finished(self._context, now - age)


def remove_finished(
    context: RunContext, ended_before: datetime | None = None, client: str | None = None
) -> list[str]:
    """Delete ended tasks and their files, optionally only those that ended before a time or belong
    to a client; return their ids. Blocks; raises StoreError.
    """
    gone = context.store.delete_finished(ended_before, client)
    for task_id in gone:
        context.folder.remove(task_id)
    return gone


def remove_orphans(store: TaskStore, folder: DataFolder, nodes: NodeStore) -> list[str]:
    """End or delete tasks that only the process that accepted them could execute, if that process
    is dead; return their ids. Blocks; raises StoreError.
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
    """Make a call at a fixed rate, however long it takes, and also when `early` is set. Log errors
    and go on.
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
            logger.warning("%s; next try in %g s", error, seconds)
        except Exception:
            logger.exception("upkeep met a fault; next try in %g s", seconds)


async def take_work(context: RunContext, nodes: NodeStore, queue: WorkQueue) -> None:
    """Let the queue claim work once a run host has reported its kernels, and publish what this node
    can do whenever that changes. A node that claimed tasks it cannot execute would fail them at
    once, one after another, although other nodes could execute them.
    """
    published: Abilities | None = None
    while True:
        try:
            reports = await context.catalogue.reports()
            up = [n for n in context.settings.offered_strategies if context.clusters.is_up(n)]
            able = abilities(reports, context.settings, context.memory.run_bytes, up)
            if able != published:
                if published is not None:
                    queue.set_abilities(able)  # first, so that it claims nothing it lost
                await in_store_thread(nodes.publish, able)
                if published is None:
                    queue.launch(able)
                published = able
        except (NotReadyError, StoreError) as error:
            logger.debug("this node does not publish its abilities yet: %s", error)
        await asyncio.sleep(_LOOK_SECONDS)


def abilities(
    reports: Sequence[KernelReport],
    settings: Settings,
    run_bytes: int,
    strategies: Iterable[StrategyName],
) -> Abilities:
    """Return the abilities of a process whose run hosts have these kernels, whose runs may use
    `run_bytes` of memory each, and which has these strategies now. Users' code is of the version
    that is declared now.
    """
    available = [report for report in reports if report.available]
    names = {f"kernel:{report.workload}/{report.kernel}" for report in available}
    names |= {f"workload:{report.workload}" for report in available}
    names |= {
        version_ability(workload.name, workload.source.short_version)
        for workload in declared_workloads()
        if workload.source is not None
    }
    names |= {f"strategy:{name}" for name in strategies}
    names |= {f"kind:{kind}" for kind in TaskKind}
    names |= {f"spec:{version}" for version in range(SPEC_VERSION + 1)}
    names |= {f"upload:{media_type}" for media_type in media_types()}
    own = set(settings.sources)
    dbs = own | set(DbSource) - ({DbSource.PINOT} if settings.pinot_url is None else set())
    caches = own | set(CacheSource) - ({CacheSource.REDIS} if settings.redis_url is None else set())
    names |= {f"db:{source}" for source in dbs} | {f"cache:{source}" for source in caches}
    return Abilities(frozenset(names), run_bytes)
