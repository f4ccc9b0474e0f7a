"""A user's function in a real service: by every strategy, killed, restarted, and changed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.own_code import MOODY, RATIOS, write_module
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

NO_IO = {"db": "none", "cache": "none"}
SHORT: dict[str, Any] = NO_IO | {"workload": "ratios", "items_count": 1_000, "workers": 2}
LONG: dict[str, Any] = NO_IO | {
    "workload": "ratios",
    "kernel": "python",
    "strategy": "sequential",
    "items_count": 20_000,
    "batch_size": 100,
    "parameters": {"steps": 1_000},
}
"""A task of some seconds in many batches."""
REASON = "ZeroDivisionError: float division by zero at ratios.py:18"


def serving(folder: Path, *files: Path) -> AbstractContextManager[Server]:
    return running_server(folder, run_hosts=1, workloads=",".join(map(str, files)))


def ready(server: Server) -> Server:
    """The server once its workloads are known."""
    server.wait_ready()
    wait_until(
        lambda: server.run("sequential", **SHORT | {"items_count": 1}).status_code == 200,
        "its workload answers",
        60,
    )
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    code = tmp_path_factory.mktemp("code")
    files = write_module(code, "ratios", RATIOS), write_module(code, "moody", MOODY)
    with serving(tmp_path_factory.mktemp("data"), *files) as server:
        yield ready(server)


def test_all_strategies_and_kernels_give_the_same_results(server: Server) -> None:
    found: set[tuple[str, str]] = set()
    for strategy in LOCAL_STRATEGIES:
        for kernel in ("python", "numba"):
            answer = server.run(strategy, **SHORT, kernel=kernel, batch_size=64)
            assert answer.status_code == 200, answer.text
            result = answer.json()
            assert result["failed_items"] == 10
            assert result["error_rate"] == 0.01
            assert {error["reason"] for error in result["errors"]} == {REASON}
            assert {error["stage"] for error in result["errors"]} == {"kernel"}
            assert {error["item_id"] for error in result["errors"]} == set(range(0, 1_000, 100))
            found.add((result["checksum"], result["workload_version"]))
    ((_, version),) = found
    assert len(version) == 12
    metrics = server.client.get("/metrics").text
    assert (
        'hotloop_items_total{kernel="numba",outcome="failed",strategy="hybrid",workload="ratios"}'
        in metrics
    )


def test_failed_items_are_like_those_of_a_source(server: Server) -> None:
    task_id = server.submit(**SHORT, strategy="hybrid", batch_size=100)
    result = server.ended(task_id)["result"]
    assert (result["failed_items"], result["error_rate"]) == (10, 0.01)
    url = f"/api/v1/tasks/results/{task_id}"
    lines = server.client.get(url, headers={"Accept": "application/x-ndjson"}).text.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["item_id"] for row in rows if row["total"] is None] == list(range(0, 1_000, 100))
    table = server.client.get(url, headers={"Accept": "text/csv"}).text.splitlines()
    assert (table[1], table[2][:2]) == ("0,,", "1,")
    refused = server.run("threading", **SHORT, max_error_rate=0.005)
    assert refused.status_code == 502
    assert "max_error_rate = 0.005" in refused.json()["detail"]


def test_comparison_checks_the_outputs_of_both_kernels(server: Server) -> None:
    """Values are made up by the user's code, which only run hosts have."""
    items = [{"item_id": n, "value": n / 10, "divisor": n} for n in range(1, 200)]
    body = {"rounds": 1, "strategies": ["sequential", "threading"]} | NO_IO
    for made_up in (
        {"workload": "ratios", "items": items},
        {"workload": "moody", "items_count": 50},
    ):
        answer = server.client.post("/api/v1/tasks/compare", json=body | made_up)
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs_equal"] is True


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("threading", "the run host died in the middle of the run: signal SIGSEGV"),
        ("concurrent-futures", "a worker process died during batch 3"),
    ],
)
def test_crash_of_a_users_function_leaves_the_service_and_other_workloads(
    server: Server, strategy: str, words: str
) -> None:
    body = NO_IO | {"workload": "moody", "items_count": 60, "batch_size": 10, "workers": 2}
    answer = server.run(strategy, **body, parameters={"mood": "crash", "bad": 33})
    assert answer.status_code == 500
    assert words in answer.json()["detail"]
    assert server.run(strategy, **SHORT).status_code == 200
    assert server.run(strategy, **NO_IO, items_count=100).status_code == 200


def test_killed_task_waits_for_the_version_of_the_code_that_it_began_with(tmp_path: Path) -> None:
    file = write_module(tmp_path, "ratios", RATIOS)
    with serving(tmp_path, file) as first:
        task_id = ready(first).submit(**LONG)
        first.wait_progress(task_id)
        version = first.view(task_id)["workload_version"]
        first.stop(signal.SIGKILL)
    write_module(tmp_path, "ratios", RATIOS.replace("divisor * steps", "divisor + steps"))
    with serving(tmp_path, file) as changed:
        new = ready(changed).run("threading", **SHORT).json()
        assert new["workload_version"] != version
        expected = (
            f"a node with version {version} of the workload ratios; those that are up have version "
            f"{new['workload_version']}"
        )
        wait_until(lambda: changed.view(task_id)["waiting_for"] == expected, "it waits", 30)
        before = changed.view(task_id)
        later = changed.submit(**SHORT, strategy="threading")
        assert changed.ended(later)["workload_version"] == new["workload_version"]
        assert changed.view(task_id) == before
    write_module(tmp_path, "ratios", f"# The comment changes no version.\n{RATIOS}")
    with serving(tmp_path, file) as restored:
        resumed = restored.ended(task_id)["result"]
        run = LONG | {"kernel": "numba", "batch_size": 1_000}
        whole = restored.run(run.pop("strategy"), **run).json()
    assert resumed["workload_version"] == whole["workload_version"] == version
    assert resumed["checksum"] == whole["checksum"]
    assert resumed["failed_items"] == whole["failed_items"] == 200


def test_code_that_changes_under_a_running_service_is_not_run(tmp_path: Path) -> None:
    """The run host that imports it anew refuses it, and says what to do."""
    file = write_module(tmp_path, "ratios", RATIOS)
    with serving(tmp_path, file) as server:
        assert ready(server).run("threading", **SHORT).status_code == 200
        write_module(tmp_path, "ratios", RATIOS.replace("divisor * steps", "divisor + steps"))
        assert server.run("threading", **SHORT).status_code == 200, "the old code is imported"
        (host,) = server.run_hosts()
        host.kill()
        wait_until(lambda: host not in server.run_hosts(), "it is gone")
        server.wait_ready()
        wait_until(lambda: len(server.run_hosts()) == 1, "another one is there")
        answer = server.run("threading", **SHORT)
        assert answer.status_code == 500
        assert answer.json()["type"] == "urn:hotloop:problem:workload-unusable"
        assert "restart the service, or serve with --reload" in answer.json()["detail"]
        assert server.run("threading", **NO_IO, items_count=100).status_code == 200
