"""`serving.processes`, `serving.supervisor`: several API processes on one port are one service."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.processes import FORK_SERVER, is_gone
from tests.fixtures.server import LITTLE, Server, running_server
from tests.fixtures.steady_client import steady_client
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, api_processes=2, run_hosts=1) as server:
        yield server


def api_processes(server: Server) -> list[int]:
    """The ids of the processes that listen, as the log names them, without the supervisor."""
    started = re.findall(r"Started server process \[(\d+)\]", "".join(server.log))
    return [pid for pid in map(int, started) if psutil.pid_exists(pid)]


def total(server: Server, name: str, **labels: str) -> float:
    text = httpx.get(f"{server.url}/metrics", timeout=60).text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def answered(server: Server) -> float:
    return total(server, "hotloop_request_seconds_count", route="/health")


def test_metrics_add_up_over_processes_and_survive_a_death(server: Server) -> None:
    for _ in range(40):
        assert httpx.get(f"{server.url}/health", timeout=60).status_code == 200
    assert {answered(server) for _ in range(8)} == {40}
    for _ in range(3):
        assert server.run("sequential", **LITTLE).json()["status"] == "completed"
    assert total(server, "hotloop_items_total", outcome="done") == 60
    assert total(server, "hotloop_processes") == 2

    victim = api_processes(server)[0]
    server.look_below()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len("".join(server.log).split("Application startup complete")) == 4, "third")
    wait_until(lambda: total(server, "hotloop_processes") == 2, "the dead one is not counted")
    assert {answered(server) for _ in range(8)} == {40}
    assert total(server, "hotloop_items_total", outcome="done") == 60
    assert server.stop() == 0


def test_every_process_knows_every_task(server: Server) -> None:
    body = LITTLE | {"strategy": "sequential"}
    tasks = [
        httpx.post(f"{server.url}/api/v1/tasks/background", json=body, timeout=60).json()["task_id"]
        for _ in range(4)
    ]
    for task_id in tasks:
        url = f"{server.url}/api/v1/tasks/status/{task_id}"
        wait_until(
            lambda url=url: httpx.get(url, timeout=60).json()["status"] == "completed",  # type: ignore[misc]
            "it is executed",
        )


def test_no_request_fails_while_processes_are_replaced(server: Server) -> None:
    before = api_processes(server)
    with steady_client(f"{server.url}/health") as client:
        wait_until(lambda: client.answered > 20, "it is answered")
        server.look_below()
        server.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda: "".join(server.log).count("answers in place of") == 2, "both are new", bound=90
        )
        enough = client.answered + 20
        wait_until(lambda: client.answered > enough, "the new ones answer")
    assert client.failures == []
    assert not set(before) & set(api_processes(server))
    assert server.stop() == 0


def test_session_holds_for_all_processes_and_no_child_inherits_a_secret(tmp_path: Path) -> None:
    alice = make_key("alice")
    settings = {
        "api_processes": 2,
        "run_hosts": 1,
        "api_keys": keys_setting([alice]),
        "redis_url": "redis://:hush-hush@127.0.0.1:1",
        "pinot_authorization": "Bearer hush-hush",
    }
    with running_server(tmp_path, **settings) as server:
        headers = {"X-Requested-With": "hotloop"}
        answer = httpx.post(f"{server.url}/session", json={"key": alice.key}, headers=headers)
        assert answer.status_code == 200, answer.text
        listed = (  # each over a connection of its own
            httpx.get(f"{server.url}/api/v1/tasks/results", cookies=answer.cookies)
            for _ in range(30)
        )
        assert {page.status_code for page in listed} == {200}

        server.client.headers.update(alice.headers)
        assert server.run("multiprocessing", **LITTLE, workers=2).status_code == 200
        rows = [{"item_id": n, "value": 0.5, "offset": 7} for n in range(2_000)]
        assert server.run("sequential", items=rows, kernel="python").status_code == 200
        below = server.look_below()
        words = [" ".join(process.cmdline()) for process in below]
        for part in ("hotloop.app.runhost", FORK_SERVER, "spawn_main", "resource_tracker"):
            assert any(part in line for line in words), part
        for process in below:
            held = " ".join(f"{k}={v}" for k, v in process.environ().items())
            assert "hush-hush" not in held, process
            assert "HOTLOOP_" not in held, process


def test_killed_supervisor_leaves_no_process(server: Server) -> None:
    assert len(server.look_below()) >= 4
    server.stop(signal.SIGKILL)
    assert all(map(is_gone, server.below))
