"""No run host starts for a while: background tasks wait for one, and none of them fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.end_to_end.conftest import Start
from tests.end_to_end.test_background import QUICK, ended, submit, view
from tests.end_to_end.test_background_deaths import LONG, expected_checksum, wait_for_progress
from tests.fixtures.server import Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@contextmanager
def no_run_host(server: Server) -> Iterator[None]:
    """Kills every run host, and those that are started in its place, while the block lasts."""
    stop = threading.Event()

    def kill() -> None:
        api = psutil.Process(server.process.pid)
        while not stop.wait(0.02):
            for process in api.children():
                with suppress(psutil.Error):
                    if "hotloop.app.runhost" in process.cmdline():
                        process.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        yield
    finally:
        stop.set()
        killing.join()


def test_tasks_wait_for_a_run_host_and_fail_by_none(start: Start) -> None:
    """One had begun, one is queued while no run host starts, and one of these is cancelled."""
    with start() as server:
        wait_until(lambda: server.client.get("/health/ready").is_success, "it is ready", 60)
        begun = submit(server, **LONG | {"items_count": 1_000})
        wait_for_progress(server, begun)
        with no_run_host(server):
            queued, cancelled = submit(server, **LONG), submit(server, **LONG)
            for task_id in (begun, queued, cancelled):
                wait_until(
                    lambda task_id=task_id: view(server, task_id)["waiting_for"] == "a run host",  # type: ignore[misc]
                    "it waits for a run host",
                )
            listed = server.client.get("/api/v1/tasks/results").json()["items"]
            assert {task["waiting_for"] for task in listed} == {"a run host"}
            ready = server.client.get("/health/ready")
            assert ready.status_code == 503
            assert "0 of 1 run hosts" in ready.json()["detail"]
            assert server.client.get("/health").status_code == 200
            refused = server.run("sequential", **QUICK)
            assert refused.status_code == 503
            assert "no run host is ready" in refused.json()["detail"]
            assert int(refused.headers["Retry-After"]) >= 1
            # More often than a task may be tried, and until it is put back in the queue.
            wait_until(lambda: "".join(server.log).count("did not start") >= 6, "6 starts", 60)
            wait_until(lambda: "waits in the queue" in "".join(server.log), "it is put back", 60)
            assert (
                server.client.delete(f"/api/v1/tasks/{cancelled}").json()["status"] == "cancelled"
            )
        assert ended(server, begun)["waiting_for"] is None
        done = ended(server, queued)
        assert done["result"]["checksum"] == expected_checksum(server)
        assert done["attempts"] == 1
        assert view(server, cancelled)["status"] == "cancelled"
        assert server.client.get("/health/ready").status_code == 200
