"""Background tasks whose processes end, one way or another: they go on, and do nothing twice."""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.chaos.source import computed
from tests.end_to_end.conftest import Start
from tests.end_to_end.test_background import QUICK, ended, submit, view, wait_running
from tests.fixtures.server import SAMPLE, Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BATCH_ITEMS = 5
LONG: dict[str, Any] = QUICK | {
    "db": "counted",
    "batch_size": BATCH_ITEMS,
    "strategy": "sequential",
    "kernel": "python",
}
"""60 batches, two seconds; what is computed is written down."""


def times_computed(log: Path) -> Counter[int]:
    return Counter(batch.first_id for batch in computed(log))


def wait_for_progress(server: Server, task_id: str, items: int = 50) -> None:
    wait_until(lambda: view(server, task_id)["items_processed"] >= items, "progress", 60, 0.02)


def run_host(server: Server) -> psutil.Process:
    (host,) = (p for p in server.look_below() if "hotloop.app.runhost" in p.cmdline())
    return host


def expected_checksum(server: Server) -> str:
    body = {name: value for name, value in LONG.items() if name != "strategy"}
    return str(server.run("sequential", **body | {"db": "none"}).json()["checksum"])


def test_killed_run_host_costs_the_batch_it_was_at(start: Start, log: Path) -> None:
    with start() as server:
        task_id = submit(server, **LONG)
        wait_for_progress(server, task_id)
        run_host(server).kill()
        done = ended(server, task_id)
        assert done["attempts"] == 2
        assert done["result"]["checksum"] == expected_checksum(server)
    again = [first for first, times in times_computed(log).items() if times > 1]
    assert len(again) <= 2, again  # computed, or on its way to the store


def test_task_that_kills_every_run_host_fails_and_can_be_resumed(start: Start, log: Path) -> None:
    armed = Path(f"{log}.armed")
    armed.touch()
    with start() as server:
        task_id = submit(server, **LONG | {"db": "deadly"})
        failed = ended(server, task_id, "failed")
        assert "SIGKILL" in failed["error_message"]
        assert failed["items_processed"] == BATCH_ITEMS
        assert 1 < failed["attempts"] < 10
        armed.unlink()
        assert server.client.post(f"/api/v1/tasks/{task_id}/resume").status_code == 202
        done = ended(server, task_id)
        assert done["result"]["checksum"] == expected_checksum(server)
        assert done["error_message"] is None
    assert set(times_computed(log).values()) == {1}


def test_resumed_task_computes_what_is_missing(start: Start, log: Path) -> None:
    with start() as server:
        task_id = submit(server, **LONG)
        wait_for_progress(server, task_id)
        cancelled = server.client.delete(f"/api/v1/tasks/{task_id}").json()
        stored = cancelled["items_processed"] // BATCH_ITEMS
        before = times_computed(log)
        server.client.post(f"/api/v1/tasks/{task_id}/resume")
        done = ended(server, task_id)
        assert done["result"]["checksum"] == expected_checksum(server)
    assert times_computed(log).total() - before.total() == 60 - stored


def test_stopped_service_goes_on_after_its_next_start(start: Start, log: Path) -> None:
    with start(shutdown_seconds=10) as server:
        task_id = submit(server, **LONG)
        wait_for_progress(server, task_id)
        process = server.process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)  # HOTLOOP_SHUTDOWN_SECONDS
    with start() as server:
        done = ended(server, task_id)
        assert done["result"]["checksum"] == expected_checksum(server)
    # The batch that it was at was given up; nothing that was finished is computed again.
    assert 60 <= times_computed(log).total() <= 61


def test_two_services_share_a_file_and_take_over_from_each_other(start: Start, log: Path) -> None:
    with start() as one, start() as other:
        tasks = [submit(server, **LONG) for server in (one, other, one, other)]
        wait_until(
            lambda: sum(view(other, t)["status"] == "running" for t in tasks) == 2, "two run", 60
        )
        nodes = {view(other, task_id)["node"] for task_id in tasks} - {None}
        assert len(nodes) == 2
        one.stop(signal.SIGKILL)
        expected = expected_checksum(other)
        for task_id in tasks:
            assert ended(other, task_id)["result"]["checksum"] == expected
    # Four tasks have the same 60 batches; one was cut off within a batch.
    assert 240 <= times_computed(log).total() <= 242


@pytest.fixture
def slow_upload() -> Iterator[Callable[[Server], None]]:
    """Begins an upload that does not end while the test runs."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def rows() -> Iterator[bytes]:
        yield SAMPLE.read_bytes()
        stop.wait(60)

    def send(url: str) -> None:
        headers = {"Content-Type": "text/csv", "Prefer": "respond-async"}
        try:
            httpx.post(url, params={"strategy": "sequential"}, content=rows(), headers=headers)
        except httpx.TransportError:
            return

    def begin(server: Server) -> None:
        url = f"{server.url}/api/v1/tasks/upload"
        threads.append(threading.Thread(target=send, args=(url,)))
        threads[-1].start()

    yield begin
    stop.set()
    for thread in threads:
        thread.join()


def test_half_an_upload_is_never_executed(
    start: Start, tmp_path: Path, slow_upload: Callable[[Server], None]
) -> None:
    """Its service, or one beside it, started anew: neither may take it for accepted."""
    uploads = tmp_path / "data" / "uploads"
    with start() as server:
        slow_upload(server)
        wait_until(lambda: any(p.stat().st_size for p in uploads.glob("*.upload")), "rows came")
        with start() as other:  # sweeps at its start
            page = other.client.get("/api/v1/tasks/results")
            assert page.status_code == 200, page.text + "".join(other.log[-40:])
            (listed,) = page.json()["items"]
            assert (listed["status"], listed["shards"]["total"]) == ("pending", 0)
            assert view(other, listed["task_id"])["attempts"] == 0
        server.stop(signal.SIGKILL)
    with start() as server:
        assert server.client.get("/api/v1/tasks/results").json()["total"] == 0
        assert list(uploads.iterdir()) == []


def test_old_tasks_go_with_all_they_had_and_live_ones_stay(start: Start, tmp_path: Path) -> None:
    items = [{"item_id": i, "value": 0.5, "offset": i} for i in range(10)]
    with start() as server:
        old = submit(server, items=items, strategy="sequential")
        ended(server, old)
        young = submit(server, **QUICK)
        ended(server, young)
        live = submit(server, **LONG | {"items_count": 10_000})
        wait_running(server, live)
    with closing(sqlite3.connect(tmp_path / "data" / "hotloop.sqlite3")) as database, database:
        long_ago = f"{datetime.now(UTC) - timedelta(hours=2):%Y-%m-%d %H:%M:%S.%f}"
        database.execute("update tasks set end_time = ? where task_id = ?", (long_ago, old))
        database.execute(
            "update tasks set created_at = ?, start_time = ? where task_id = ?",
            (long_ago, long_ago, live),
        )
    with start(retention_hours=1) as server:
        path = f"/api/v1/tasks/status/{old}"
        wait_until(lambda: server.client.get(path).status_code == 404, "it is removed", 60, 0.02)
        assert view(server, young)["status"] == "completed"
        assert view(server, live)["status"] in ("pending", "running")
        server.client.delete(f"/api/v1/tasks/{live}")
    with closing(sqlite3.connect(tmp_path / "data" / "hotloop.sqlite3")) as database:
        for table in ("tasks", "shards", "results"):
            (count,) = database.execute(
                f"select count(*) from {table} where task_id = ?", (old,)
            ).fetchone()
            assert count == 0, table
    assert not list((tmp_path / "data" / "uploads").glob(f"{old}*"))
