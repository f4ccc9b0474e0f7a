"""Readiness, and the state of sources from reports that may come late, twice or not at all."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.database.engine import FILE_NAME
from hotloop.app.observability import health as health_module
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.observability.health import HealthService, SourceMonitor
from hotloop.app.runhost.host_pool import HostPoolOptions, RunHostPool
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.tasks.store import open_store
from tests.runhost.conftest import CONFIG

NO_CLUSTERS = ClusterMonitor({})


def test_service_with_an_unusable_store_is_not_ready(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    hosts = RunHostPool(CONFIG, HostPoolOptions(1, 1, 1.0, {}))
    health = HealthService(hosts, store, SourceMonitor(()), 1, NO_CLUSTERS)
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


def test_hanging_store_is_checked_once_and_not_waited_for(
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
    health = HealthService(hosts, store, SourceMonitor(()), 1, NO_CLUSTERS)

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


def test_service_without_heartbeat_is_not_ready(tmp_path: Path) -> None:
    """A read-only database answers questions, but no run can be taken."""
    store = open_store(tmp_path)
    hosts = RunHostPool(CONFIG, HostPoolOptions(1, 1, 1.0, {}))
    health = HealthService(
        hosts, store, SourceMonitor(()), 1, NO_CLUSTERS, lambda: "it takes no writes"
    )
    check = asyncio.run(health.ready()).checks["store"]
    store.close()
    assert (check.ready, check.detail) == (False, "it takes no writes")


def report(state: str, openings: int, number: int, **changes: Any) -> BreakerReport:
    fields: dict[str, Any] = {"source": "pinot", "reason": f"off {number}", "process": "p"}
    return BreakerReport(**(fields | changes), state=state, openings=openings, number=number)


def noted(*reports: BreakerReport) -> tuple[str, int, str | None]:
    """State, openings and reason after them."""
    monitor = SourceMonitor(("pinot",))
    for one in reports:
        monitor.note(one)
    state = monitor.states()["pinot"]
    return state.state, state.openings, state.reason


def test_configured_sources_are_known_before_any_run() -> None:
    health = SourceMonitor(("pinot", "redis")).health()
    assert list(health) == ["pinot", "redis"]
    for source in health.values():
        assert source.breaker == "closed"
        assert source.openings == 0
        assert source.changed_at is None
        assert source.detail == "no trouble seen"


def test_outage_is_reported_from_start_to_end() -> None:
    monitor = SourceMonitor(())
    details = []
    for one in (report("open", 1, 1), report("half_open", 1, 2), report("closed", 1, 3)):
        monitor.note(one)
        health = monitor.health()["pinot"]
        assert (health.breaker, health.openings) == (one.state, 1)
        assert health.changed_at is not None
        details.append(health.detail)
    assert details == [
        "off 1; the next call of a run tries it again",
        "off 2; the next call of a run tries it again",
        "answers again; it failed before: off 3",
    ]


def test_each_opening_counts_once() -> None:
    assert noted(report("open", 1, 1), report("half_open", 1, 2), report("open", 1, 3)) == (
        "open",
        1,
        "off 3",
    )
    assert noted(report("closed", 3, 9)) == ("closed", 3, "off 9")
    assert noted(report("open", 1, 1), report("closed", 2, 5), report("open", 3, 6))[1] == 3


def test_late_and_repeated_reports_change_nothing() -> None:
    opened, closed, again = report("open", 1, 1), report("closed", 1, 2), report("open", 2, 3)
    assert noted(opened, again, closed) == ("open", 2, "off 3")
    assert noted(opened, closed, opened) == ("closed", 1, "off 2")
    monitor = SourceMonitor(())
    monitor.note(opened)
    changed = monitor.health()["pinot"].changed_at
    monitor.note(opened)
    assert monitor.health()["pinot"].changed_at == changed


def test_openings_of_workers_add_up_and_the_latest_state_counts() -> None:
    mine, other = report("open", 1, 1), report("open", 1, 1, process="q")
    assert noted(mine, other) == ("open", 2, "off 1")
    back = report("closed", 1, 2, process="q")
    # The first worker's last report comes with each of its results.
    assert noted(mine, other, back, mine, mine) == ("closed", 2, "off 2")


def test_sources_do_not_mix() -> None:
    monitor = SourceMonitor(("redis",))
    monitor.note(report("open", 1, 1))
    monitor.note(report("open", 2, 1, source="square"))
    states = monitor.states()
    assert {name: (s.state, s.openings) for name, s in states.items()} == {
        "redis": ("closed", 0),
        "pinot": ("open", 1),
        "square": ("open", 2),
    }


def test_counts_add_up_from_any_thread_and_are_copies() -> None:
    monitor = SourceMonitor(("redis",))
    counts = StageCounts(calls=4, retries=3, hits=2, misses=1)

    def count() -> None:
        for _ in range(500):
            monitor.count("redis", counts)
            monitor.count("new", counts)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = monitor.states()
    for name in ("new", "redis"):
        assert states[name].counts == StageCounts(8_000, 6_000, 4_000, 2_000)
    states["redis"].counts.calls = 0
    states["redis"].state = "open"
    assert monitor.states()["redis"].counts.calls == 8_000
    assert monitor.states()["redis"].state == "closed"
