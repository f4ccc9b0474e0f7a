"""What must work before runs are taken."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.observability import health as health_module
from hotloop.app.observability.health import HealthService
from hotloop.app.observability.sources import SourceMonitor
from hotloop.app.runhost.host_pool import HostPoolOptions, RunHostPool
from hotloop.app.tasks.engine import FILE_NAME
from hotloop.app.tasks.store import open_store
from tests.runhost.conftest import CONFIG


def test_service_whose_store_cannot_be_used_is_not_ready(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    hosts = RunHostPool(CONFIG, HostPoolOptions(1, 1, 1.0, {}))
    health = HealthService(hosts, store, SourceMonitor(()), 1)
    assert asyncio.run(health.ready()).checks["store"].ready
    store.close()
    for left in tmp_path.glob(f"{FILE_NAME}*"):
        left.unlink()
    (tmp_path / FILE_NAME).write_text("no database at all, " * 100)
    try:
        readiness = asyncio.run(health.ready())
    finally:
        store.close()
    assert not readiness.ready
    assert not readiness.checks["store"].ready
    assert "no SQLite file" in readiness.checks["store"].detail


def test_store_that_hangs_is_not_waited_for_and_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "STORE_SECONDS", 0.02)
    store, answers, asked = open_store(tmp_path), threading.Event(), []
    page = store.page

    def hang(**arguments: Any) -> Any:
        asked.append(arguments)
        answers.wait()
        return page(**arguments)

    monkeypatch.setattr(store, "page", hang)
    hosts = RunHostPool(CONFIG, HostPoolOptions(1, 1, 1.0, {}))
    health = HealthService(hosts, store, SourceMonitor(()), 1)

    async def main() -> None:
        for _ in range(3):
            check = (await health.ready()).checks["store"]
            assert not check.ready
            assert "has not answered within" in check.detail
        assert len(asked) == 1
        monkeypatch.setattr(health_module, "STORE_SECONDS", 30.0)
        answers.set()
        assert (await health.ready()).checks["store"].ready

    try:
        asyncio.run(main())
    finally:
        answers.set()
        store.close()


def test_store_that_takes_no_heartbeat_is_not_ready(tmp_path: Path) -> None:
    """One that is read-only answers questions, and no run can be taken."""
    store = open_store(tmp_path)
    hosts = RunHostPool(CONFIG, HostPoolOptions(1, 1, 1.0, {}))
    health = HealthService(hosts, store, SourceMonitor(()), 1, lambda: "it takes no writes")
    check = asyncio.run(health.ready()).checks["store"]
    store.close()
    assert (check.ready, check.detail) == (False, "it takes no writes")
