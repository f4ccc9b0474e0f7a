"""The worst moments: processes of the service killed in the middle of a run."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from hotloop.app.names import StrategyName
from tests.fixtures.processes import pool_workers
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

LONG: dict[str, Any] = {
    "items_count": 5_000,
    "batch_size": 10,
    "workers": 2,
    "db_delay_ms": 30,
    "io_concurrency": 10,
    "kernel": "python",
    "parameters": {"cpu_iterations": 50, "outer_iterations": 5, "inner_iterations": 7},
}

STORED = 50


class Request:
    """A run asked for in a thread; `answer` is the response, or None when the server vanished."""

    def __init__(self, server: Server, strategy: str) -> None:
        self.answer: httpx.Response | None = None
        self._server = server
        self._thread = threading.Thread(target=self._ask, args=(strategy,))
        self._thread.start()

    def _ask(self, strategy: str) -> None:
        try:
            self.answer = httpx.post(
                f"{self._server.url}/api/v1/tasks/{strategy}", json=LONG, timeout=60
            )
        except httpx.TransportError:
            self.answer = None

    def wait_for_progress(self) -> str:
        """The id of the task, once it has stored some progress."""
        task_id = ""

        def progress() -> bool:
            nonlocal task_id
            with httpx.Client(base_url=self._server.url) as client:
                tasks = client.get("/api/v1/tasks/results?status=running").json()["items"]
                if tasks:
                    task_id = tasks[0]["task_id"]
                # More than can be in work, so that some are stored.
                return bool(tasks and tasks[0]["items_processed"] >= STORED)

        wait_until(progress, "a task has progress")
        self._server.look_below()
        return task_id

    def join(self) -> httpx.Response | None:
        self._thread.join()
        return self.answer


def run_hosts(server: Server) -> list[psutil.Process]:
    return [
        p
        for p in psutil.Process(server.process.pid).children()
        if "hotloop.app.runhost" in p.cmdline()
    ]


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_killed_service_leaves_nothing_and_the_next_start_says_so(
    strategy: StrategyName, tmp_path: Path
) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        request = Request(server, strategy)
        task_id = request.wait_for_progress()
        server.stop(signal.SIGKILL)  # waits until everything below is gone
        assert request.join() is None
    with running_server(tmp_path, run_hosts=1) as server:
        view = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
        assert view["status"] == "failed"
        assert "service stopped" in view["error_message"]
        rows = server.client.get(f"/api/v1/tasks/results/{task_id}").text.splitlines()
        assert 0 < len(rows) == view["items_processed"] < LONG["items_count"]


def test_killed_service_leaves_no_reader_of_large_bodies(tmp_path: Path) -> None:
    rows = [{"item_id": n, "value": 0.5, "offset": 7} for n in range(2_000)]
    with running_server(tmp_path, run_hosts=1) as server:
        wait_until(lambda: server.client.get("/health/ready").is_success, "the service is warm")
        before = set(server.look_below())
        assert server.run("sequential", items=rows, kernel="cython").status_code == 200
        readers = server.look_below() - before
        assert any("spawn_main" in " ".join(reader.cmdline()) for reader in readers)
        server.stop(signal.SIGKILL)  # waits until everything below is gone


def test_stopped_service_ends_runs_in_order(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1, shutdown_seconds=2) as server:
        request = Request(server, "hybrid")
        task_id = request.wait_for_progress()
        assert server.stop(signal.SIGTERM) == 0
        request.join()
    with running_server(tmp_path, run_hosts=1) as server:
        view = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
        assert view["status"] == "cancelled"


def test_killed_run_host_is_named_and_replaced(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        request = Request(server, "multiprocessing")
        task_id = request.wait_for_progress()
        (host,) = run_hosts(server)
        host.kill()
        answer = request.join()
        assert answer is not None
        assert answer.status_code == 500
        problem = answer.json()
        assert "SIGKILL" in problem["detail"]
        assert problem["task_id"] == task_id
        assert problem["type"].endswith("run-host-died")
        # A new one takes the next run; the store and the finished batches are there.
        quick = LONG | {"items_count": 20, "db": "none", "cache": "none"}
        assert server.run("multiprocessing", **quick).json()["status"] == "completed"
        assert server.client.get(problem["links"]["results"]).text
        assert server.client.get("/health/ready").status_code == 200


def test_killed_worker_costs_only_its_batches(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        expected = server.run("sequential", **(LONG | QUICKER)).json()["checksum"]
        for strategy in ("multiprocessing", "concurrent-futures"):
            answers: list[httpx.Response] = []
            asking = threading.Thread(
                target=lambda s=strategy, a=answers: a.append(
                    server.run(s, **(LONG | QUICKER | {"db": "simulated"}))
                )
            )
            asking.start()
            wait_until(lambda: _workers(server), "worker processes run")
            wait_until(lambda: _progress(server), "the run has progress")
            os.kill(_workers(server)[0].pid, signal.SIGKILL)
            asking.join()
            assert answers[0].status_code == 200, answers[0].text
            assert answers[0].json()["checksum"] == expected


QUICKER = {"items_count": 1_000, "db": "none", "cache": "none", "db_delay_ms": 5}


def _workers(server: Server) -> list[psutil.Process]:
    return [worker for host in run_hosts(server) for worker in pool_workers(host.pid)]


def _progress(server: Server) -> bool:
    with httpx.Client(base_url=server.url) as client:
        tasks = client.get("/api/v1/tasks/results?status=running").json()["items"]
    return bool(tasks and tasks[0]["items_processed"])


def test_health_answers_during_every_run(tmp_path: Path) -> None:
    """Counted, not timed: while runs of all strategies execute, every probe is answered."""
    with running_server(tmp_path, run_hosts=1) as server:
        for strategy in StrategyName:
            request = Request(server, strategy)
            task_id = request.wait_for_progress()
            with httpx.Client(base_url=server.url) as client:
                assert all(client.get("/health").status_code == 200 for _ in range(50))
                running = client.get(f"/api/v1/tasks/status/{task_id}").json()
                assert running["status"] == "running"
                client.delete(f"/api/v1/tasks/{task_id}")
            request.join()
