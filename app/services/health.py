"""What must work before runs are taken."""

from __future__ import annotations

import asyncio

from app.errors import StoreError
from app.runhost.host_pool import RunHostPool
from app.schemas.health import Check, Readiness
from app.services.sources import SourceMonitor
from app.tasks.store import TaskStore


class HealthService:
    """Asks each part."""

    def __init__(
        self, hosts: RunHostPool, store: TaskStore, sources: SourceMonitor, run_hosts: int
    ) -> None:
        self._hosts = hosts
        self._store = store
        self._sources = sources
        self._run_hosts = run_hosts

    async def ready(self) -> Readiness:
        """Ready when at least one run host is warm and the store answers."""
        checks = {
            "run_hosts": self._check_run_hosts(),
            "store": await self._check_store(),
            "kernels": self._check_kernels(),
        }
        ready = all(check.ready for check in checks.values())
        return Readiness(ready=ready, checks=checks, sources=self._sources.health())

    def _check_run_hosts(self) -> Check:
        alive = self._hosts.alive_count
        detail = f"{alive} of {self._run_hosts} run hosts are warm"
        if self._hosts.last_failure is not None:
            detail += f"; the last that started failed: {self._hosts.last_failure}"
        return Check(ready=alive > 0, detail=detail)

    async def _check_store(self) -> Check:
        try:
            page = await asyncio.to_thread(self._store.page, limit=1)
        except StoreError as error:
            return Check(ready=False, detail=str(error))
        return Check(ready=True, detail=f"{page.total} tasks are kept")

    def _check_kernels(self) -> Check:
        if self._hosts.last_ready is None:
            return Check(ready=False, detail="no run host has loaded them yet")
        reports = self._hosts.last_ready.kernels
        texts = [f"{r.kernel}: {'ready' if r.available else r.reason}" for r in reports]
        return Check(ready=any(r.available for r in reports), detail="; ".join(texts))
