"""`runhost.host`, `runhost.client`: processes die or stop in the middle of synchronous runs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotloop.app.names import StrategyName
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.processes import pool_workers
from tests.fixtures.server import FAST, RunRequest, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

LONG: dict[str, Any] = {
    "items_count": 5_000,
    "batch_size": 10,
    "workers": 2,
    "db_delay_ms": 30,
    "io_concurrency": 10,
    "kernel": "python",
    "parameters": FAST,
}
QUICKER = LONG | {"items_count": 1_000, "db": "none", "cache": "none", "db_delay_ms": 5}

STORED = 50
"""More items than can be in work, so that some are stored."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), run_hosts=1) as server:
        yield server


@pytest.mark.parametrize(
    "strategies",
    [
        (StrategyName.SEQUENTIAL, StrategyName.THREADING),
        (StrategyName.MULTIPROCESSING, StrategyName.ASYNC_BATCH),
        (StrategyName.CONCURRENT_FUTURES, StrategyName.HYBRID),
    ],
    ids=" and ".join,
)
def test_killed_service_leaves_no_process_and_the_next_start_fails_its_runs(
    tmp_path: Path, strategies: tuple[StrategyName, ...]
) -> None:
    with running_server(tmp_path, run_hosts=len(strategies)) as server:
        requests = [RunRequest(server, strategy, **LONG) for strategy in strategies]
        tasks = [request.wait_progress(STORED) for request in requests]
        server.stop(signal.SIGKILL)  # waits until every process below is gone
        assert [request.answer() for request in requests] == [None] * len(tasks)
    with running_server(tmp_path, run_hosts=1) as server:
        for task_id in tasks:
            view = server.view(task_id)
            assert view["status"] == "failed"
            assert "service stopped" in view["error_message"]
            rows = server.client.get(f"/api/v1/tasks/results/{task_id}").text.splitlines()
            assert 0 < len(rows) == view["items_processed"] < LONG["items_count"]


def test_killed_service_leaves_no_reader_of_large_bodies(tmp_path: Path) -> None:
    rows = [{"item_id": n, "value": 0.5, "offset": 7} for n in range(2_000)]
    with running_server(tmp_path, run_hosts=1) as server:
        server.wait_ready()
        before = set(server.look_below())
        assert server.run("sequential", items=rows, kernel="cython").status_code == 200
        readers = server.look_below() - before
        assert any("spawn_main" in " ".join(reader.cmdline()) for reader in readers)
        server.stop(signal.SIGKILL)  # waits until every process below is gone


def test_stopped_service_cancels_its_runs(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1, shutdown_seconds=2) as server:
        request = RunRequest(server, "hybrid", **LONG)
        task_id = request.wait_progress(STORED)
        assert server.stop(signal.SIGTERM) == 0
        request.answer()
    with running_server(tmp_path, run_hosts=1) as server:
        assert server.view(task_id)["status"] == "cancelled"


def test_killed_run_host_fails_its_run_and_is_replaced(server: Server) -> None:
    request = RunRequest(server, "multiprocessing", **LONG)
    task_id = request.wait_progress(STORED)
    (host,) = server.run_hosts()
    host.kill()
    answer = request.response()
    assert answer.status_code == 500
    problem = answer.json()
    assert "SIGKILL" in problem["detail"]
    assert problem["task_id"] == task_id
    assert problem["type"].endswith("run-host-died")
    assert server.run("multiprocessing", **QUICKER).json()["status"] == "completed"
    assert server.client.get(problem["links"]["results"]).text
    assert server.client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("strategy", ["multiprocessing", "concurrent-futures"])
def test_killed_worker_costs_only_its_batches(server: Server, strategy: str) -> None:
    expected = server.run("sequential", **QUICKER).json()["checksum"]
    request = RunRequest(server, strategy, **QUICKER | {"db": "simulated"})
    wait_until(lambda: pool_workers(server.process.pid), "worker processes run")
    request.wait_progress()
    pool_workers(server.process.pid)[0].kill()
    answer = request.response()
    assert answer.status_code == 200, answer.text
    assert answer.json()["checksum"] == expected


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_health_answers_during_every_run(server: Server, strategy: StrategyName) -> None:
    request = RunRequest(server, strategy, **LONG)
    task_id = request.wait_progress(STORED)
    with httpx.Client(base_url=server.url) as client:
        assert all(client.get("/health").status_code == 200 for _ in range(50))
    assert server.view(task_id)["status"] == "running"
    server.client.delete(f"/api/v1/tasks/{task_id}")
    request.answer()
