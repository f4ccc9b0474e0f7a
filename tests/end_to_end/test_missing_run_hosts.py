"""Background tasks wait, and do not fail, while no run host starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.end_to_end.conftest import Start
from tests.end_to_end.test_background_deaths import LONG, expected_checksum
from tests.fixtures.server import QUICK, Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@contextmanager
def no_run_host(server: Server) -> Iterator[None]:
    """Kill every run host that is there or is started while the block lasts."""
    stop = threading.Event()

    def kill() -> None:
        while not stop.wait(0.02):
            for host in server.run_hosts():
                with suppress(psutil.Error):
                    host.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    try:
        yield
    finally:
        stop.set()
        killing.join()


def test_tasks_wait_for_a_run_host_without_failing(start: Start) -> None:
    """Begin a task, queue two more without a run host, and cancel one of these."""
    with start() as server:
        server.wait_ready()
        begun = server.submit(**LONG | {"items_count": 1_000})
        server.wait_progress(begun, 50)
        with no_run_host(server):
            queued, cancelled = server.submit(**LONG), server.submit(**LONG)
            for task_id in (begun, queued, cancelled):
                wait_until(
                    lambda task_id=task_id: server.view(task_id)["waiting_for"] == "a run host",  # type: ignore[misc]
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
            # More starts fail than a task may have attempts, and the task returns to the queue.
            wait_until(lambda: "".join(server.log).count("did not start") >= 6, "6 starts", 60)
            wait_until(lambda: "waits in the queue" in "".join(server.log), "it is put back", 60)
            assert (
                server.client.delete(f"/api/v1/tasks/{cancelled}").json()["status"] == "cancelled"
            )
        assert server.ended(begun)["waiting_for"] is None
        done = server.ended(queued)
        assert done["result"]["checksum"] == expected_checksum(server)
        assert done["attempts"] == 1
        assert server.view(cancelled)["status"] == "cancelled"
        assert server.client.get("/health/ready").status_code == 200
