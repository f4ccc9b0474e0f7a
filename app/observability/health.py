"""Readiness: the parts that must work before runs are accepted, and the sources that runs use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import StoreError
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.schemas.service import Check, Readiness, SourceHealth
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.tasks.store import TaskStore

STORE_SECONDS: Final = 1.0
"""Time that the store has to answer: load balancers do not wait much longer for the service."""


@dataclass(slots=True)
class SourceState:
    """The state of one source, and its counts since the process started."""

    counts: StageCounts = field(default_factory=StageCounts)
    state: str = "closed"
    openings: int = 0
    reason: str | None = None
    changed_at: datetime | None = None


class SourceMonitor:
    """Collects reports of runs on their sources; thread-safe."""

    def __init__(self, configured: tuple[str, ...]) -> None:
        """`configured`: sources that are known before a run has used them."""
        self._lock = threading.Lock()
        self._sources = {name: SourceState() for name in configured}
        self._last: dict[tuple[str, str], BreakerReport] = {}
        """The last report of each source and process."""

    def note(self, report: BreakerReport) -> None:
        """Take over the change of a breaker in a process of a run host. A report that came before,
        or is older than the last one, changes nothing.
        """
        with self._lock:
            source = self._sources.setdefault(report.source, SourceState())
            key = (report.source, report.process)
            last = self._last.get(key)
            if last is not None and report.number <= last.number:
                return
            self._last[key] = report
            source.openings += report.openings - (last.openings if last is not None else 0)
            source.state = report.state
            source.reason = report.reason
            source.changed_at = datetime.now(UTC)

    def count(self, source: str, counts: StageCounts) -> None:
        """Add what a batch of a run has counted at a source."""
        with self._lock:
            self._sources.setdefault(source, SourceState()).counts.add(counts)

    def states(self) -> dict[str, SourceState]:
        """A copy of the state of each source."""
        with self._lock:
            return {
                name: SourceState(
                    StageCounts(s.counts.calls, s.counts.retries, s.counts.hits, s.counts.misses),
                    s.state,
                    s.openings,
                    s.reason,
                    s.changed_at,
                )
                for name, s in self._sources.items()
            }

    def health(self) -> dict[str, SourceHealth]:
        """The health of each source, as the last run found it."""
        return {
            name: SourceHealth(
                breaker=source.state,
                openings=source.openings,
                changed_at=source.changed_at,
                detail=_detail(source),
            )
            for name, source in self.states().items()
        }


def _detail(source: SourceState) -> str:
    if source.state == "closed":
        if source.openings:
            return f"answers again; it failed before: {source.reason}"
        return "no trouble seen"
    return f"{source.reason}; the next call of a run tries it again"


class HealthService:
    """Says whether the parts of the service are ready, and how the sources are."""

    def __init__(
        self,
        hosts: RunHostPool,
        store: TaskStore,
        sources: SourceMonitor,
        run_hosts: int,
        clusters: ClusterMonitor,
        write_failure: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`write_failure` returns why the store refused the last heartbeat, or None."""
        self._hosts = hosts
        self._store = store
        self._sources = sources
        self._run_hosts = run_hosts
        self._clusters = clusters
        self._write_failure = write_failure
        self._asking: asyncio.Task[Check] | None = None

    async def ready(self) -> Readiness:
        """Ready when at least one run host is warm and the store answers."""
        checks = {
            "run_hosts": self._check_run_hosts(),
            "store": await self._check_store(),
            "kernels": self._check_kernels(),
        }
        ready = all(check.ready for check in checks.values())
        return Readiness(
            ready=ready,
            checks=checks,
            sources=self._sources.health(),
            clusters=self._clusters.views(),
        )

    def _check_run_hosts(self) -> Check:
        alive = self._hosts.alive_count
        detail = f"{alive} of {self._run_hosts} run hosts are warm"
        if self._hosts.last_failure is not None:
            detail += f"; the last that started failed: {self._hosts.last_failure}"
        return Check(ready=alive > 0, detail=detail)

    async def _check_store(self) -> Check:
        failure = self._write_failure()
        if failure is not None:
            return Check(ready=False, detail=failure)
        # One query at a time: a store that hangs blocks the thread that queries it.
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_store())
        await asyncio.wait((self._asking,), timeout=STORE_SECONDS)
        if self._asking.done():
            return self._asking.result()
        detail = f"the task store has not answered within {STORE_SECONDS:g} s"
        return Check(ready=False, detail=detail)

    async def _ask_store(self) -> Check:
        try:
            page = await in_store_thread(self._store.page, limit=1)
        except StoreError as error:
            return Check(ready=False, detail=str(error))
        return Check(ready=True, detail=f"{page.total} tasks are kept")

    def _check_kernels(self) -> Check:
        if self._hosts.last_ready is None:
            return Check(ready=False, detail="no run host has loaded them yet")
        reports = self._hosts.last_ready.kernels
        texts = [f"{r.kernel}: {'ready' if r.available else r.reason}" for r in reports]
        return Check(ready=any(r.available for r in reports), detail="; ".join(texts))
