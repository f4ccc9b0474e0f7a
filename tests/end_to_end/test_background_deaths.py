"""Background tasks go on after the death of any of their processes, and compute nothing twice."""

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
import pytest

from tests.chaos.source import computed
from tests.end_to_end.conftest import Start
from tests.fixtures.server import QUICK, SAMPLE, Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BATCH_ITEMS = 5
LONG: dict[str, Any] = QUICK | {
    "db": "counted",
    "batch_size": BATCH_ITEMS,
    "strategy": "sequential",
    "kernel": "python",
}
"""A task of two seconds in 60 batches; the source logs each computed batch."""


def times_computed(log: Path) -> Counter[int]:
    return Counter(batch.first_id for batch in computed(log))


def expected_checksum(server: Server) -> str:
    body = {name: value for name, value in LONG.items() if name != "strategy"}
    return str(server.run("sequential", **body | {"db": "none"}).json()["checksum"])


def test_killed_run_host_costs_only_its_current_batch(start: Start, log: Path) -> None:
    with start() as server:
        task_id = server.submit(**LONG)
        server.wait_progress(task_id, 50)
        (host,) = server.run_hosts()
        host.kill()
        done = server.ended(task_id)
        assert done["attempts"] == 2
        assert done["result"]["checksum"] == expected_checksum(server)
    again = [first for first, times in times_computed(log).items() if times > 1]
    assert len(again) <= 2, again  # one in work, one on its way to the store


def test_task_that_kills_every_run_host_fails_and_can_be_resumed(start: Start, log: Path) -> None:
    armed = Path(f"{log}.armed")
    armed.touch()
    with start() as server:
        task_id = server.submit(**LONG | {"db": "deadly"})
        failed = server.ended(task_id, "failed")
        assert "SIGKILL" in failed["error_message"]
        assert failed["items_processed"] == BATCH_ITEMS
        assert 1 < failed["attempts"] < 10
        armed.unlink()
        assert server.client.post(f"/api/v1/tasks/{task_id}/resume").status_code == 202
        done = server.ended(task_id)
        assert done["result"]["checksum"] == expected_checksum(server)
        assert done["error_message"] is None
    assert set(times_computed(log).values()) == {1}


def test_resume_skips_stored_batches(start: Start, log: Path) -> None:
    with start() as server:
        task_id = server.submit(**LONG)
        server.wait_progress(task_id, 50)
        cancelled = server.client.delete(f"/api/v1/tasks/{task_id}").json()
        stored = cancelled["items_processed"] // BATCH_ITEMS
        before = times_computed(log)
        server.client.post(f"/api/v1/tasks/{task_id}/resume")
        done = server.ended(task_id)
        assert done["result"]["checksum"] == expected_checksum(server)
    assert times_computed(log).total() - before.total() == 60 - stored


def test_task_of_a_stopped_service_goes_on_after_the_next_start(start: Start, log: Path) -> None:
    with start(shutdown_seconds=10) as server:
        task_id = server.submit(**LONG)
        server.wait_progress(task_id, 50)
        process = server.process
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)  # HOTLOOP_SHUTDOWN_SECONDS
    with start() as server:
        done = server.ended(task_id)
        assert done["result"]["checksum"] == expected_checksum(server)
    # The batch in work is given up; finished batches are not computed again.
    assert 60 <= times_computed(log).total() <= 61


def test_services_on_one_store_take_over_from_each_other(start: Start, log: Path) -> None:
    with start() as one, start() as other:
        tasks = [server.submit(**LONG) for server in (one, other, one, other)]
        wait_until(
            lambda: sum(other.view(t)["status"] == "running" for t in tasks) == 2, "two run", 60
        )
        nodes = {other.view(task_id)["node"] for task_id in tasks} - {None}
        assert len(nodes) == 2
        one.stop(signal.SIGKILL)
        expected = expected_checksum(other)
        for task_id in tasks:
            assert other.ended(task_id)["result"]["checksum"] == expected
    # Four tasks have 60 batches each; one was cut off within a batch.
    assert 240 <= times_computed(log).total() <= 242


@pytest.fixture
def slow_upload() -> Iterator[Callable[[Server], None]]:
    """Begin an upload that does not end while the test runs."""
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
    """Neither a restart nor another service on the same store takes it as accepted."""
    uploads = tmp_path / "data" / "uploads"
    with start() as server:
        slow_upload(server)
        wait_until(lambda: any(p.stat().st_size for p in uploads.glob("*.upload")), "rows came")
        with start() as other:  # sweeps at its start
            page = other.client.get("/api/v1/tasks/results")
            assert page.status_code == 200, page.text + "".join(other.log[-40:])
            (listed,) = page.json()["items"]
            assert (listed["status"], listed["shards"]["total"]) == ("pending", 0)
            assert other.view(listed["task_id"])["attempts"] == 0
        server.stop(signal.SIGKILL)
    with start() as server:
        assert server.client.get("/api/v1/tasks/results").json()["total"] == 0
        assert list(uploads.iterdir()) == []


def test_retention_removes_old_finished_tasks_with_all_their_data(
    start: Start, tmp_path: Path
) -> None:
    items = [{"item_id": i, "value": 0.5, "offset": i} for i in range(10)]
    with start() as server:
        old = server.submit(items=items, strategy="sequential")
        server.ended(old)
        young = server.submit(**QUICK)
        server.ended(young)
        live = server.submit(**LONG | {"items_count": 10_000})
        server.wait_running(live)
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
        assert server.view(young)["status"] == "completed"
        assert server.view(live)["status"] in ("pending", "running")
        server.client.delete(f"/api/v1/tasks/{live}")
    with closing(sqlite3.connect(tmp_path / "data" / "hotloop.sqlite3")) as database:
        for table in ("tasks", "shards", "results"):
            (count,) = database.execute(
                f"select count(*) from {table} where task_id = ?", (old,)
            ).fetchone()
            assert count == 0, table
    assert not list((tmp_path / "data" / "uploads").glob(f"{old}*"))
