"""What must work before runs are taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.runhost.host_pool import HostPoolOptions, RunHostPool
from app.services.health import HealthService
from app.services.sources import SourceMonitor
from app.tasks.engine import FILE_NAME
from app.tasks.store import open_store
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
