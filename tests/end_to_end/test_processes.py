"""Several API processes on one port are one service."""

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
from tests.fixtures.processes import is_gone
from tests.fixtures.server import Server, running_server
from tests.fixtures.steady_client import steady_client
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

LOOPS = {"items_count": 10, "batch_size": 5, "db": "none", "cache": "none", "kernel": "python"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path, api_processes=2, run_hosts=1) as server:
        yield server


def api_processes(server: Server) -> list[int]:
    """Those that listen, besides the supervisor: they have said so in the log."""
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


def test_counts_add_up_whichever_process_is_asked_and_survive_a_death(server: Server) -> None:
    for _ in range(40):
        assert httpx.get(f"{server.url}/health", timeout=60).status_code == 200
    assert {answered(server) for _ in range(8)} == {40}
    for _ in range(3):
        assert server.run("sequential", **LOOPS).json()["status"] == "completed"
    assert total(server, "hotloop_items_total", outcome="done") == 30
    assert total(server, "hotloop_processes") == 2

    victim = api_processes(server)[0]
    server.look_below()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len("".join(server.log).split("Application startup complete")) == 4, "third")
    wait_until(lambda: total(server, "hotloop_processes") == 2, "the dead one is not counted")
    assert {answered(server) for _ in range(8)} == {40}
    assert total(server, "hotloop_items_total", outcome="done") == 30
    assert server.stop() == 0


def test_task_of_one_process_is_seen_by_all(server: Server) -> None:
    body = LOOPS | {"strategy": "sequential"}
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


def test_processes_are_replaced_one_by_one_and_no_request_fails(server: Server) -> None:
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


def test_who_signed_in_at_one_process_is_signed_in_at_all(tmp_path: Path) -> None:
    alice = make_key("alice")
    with running_server(
        tmp_path, api_processes=2, run_hosts=1, api_keys=keys_setting([alice])
    ) as server:
        headers = {"X-Requested-With": "hotloop"}
        answer = httpx.post(f"{server.url}/session", json={"key": alice.key}, headers=headers)
        assert answer.status_code == 200, answer.text
        seen = set()
        for _ in range(30):  # each by a connection of its own
            listed = httpx.get(f"{server.url}/api/v1/tasks/results", cookies=answer.cookies)
            seen.add(listed.status_code)
        assert seen == {200}


def test_no_process_below_inherits_a_secret(tmp_path: Path) -> None:
    settings = {
        "api_processes": 2,
        "run_hosts": 1,
        "redis_url": "redis://:hush-hush@127.0.0.1:1",
        "pinot_authorization": "Bearer hush-hush",
    }
    with running_server(tmp_path, **settings) as server:
        assert server.run("multiprocessing", **LOOPS, workers=2).status_code == 200
        rows = [{"item_id": n, "value": 0.5, "offset": 7} for n in range(2_000)]
        assert server.run("sequential", items=rows, kernel="python").status_code == 200
        below = server.look_below()
        words = [" ".join(process.cmdline()) for process in below]
        for what in (
            "hotloop.app.runhost",
            "hotloop.app.strategies.fork_server",
            "spawn_main",
            "resource_tracker",
        ):
            assert any(what in line for line in words), what
        for process in below:
            held = " ".join(f"{k}={v}" for k, v in process.environ().items())
            assert "hush-hush" not in held, process
            assert "HOTLOOP_" not in held, process


def test_nothing_is_left_when_the_supervisor_is_killed(server: Server) -> None:
    assert len(server.look_below()) >= 4
    server.stop(signal.SIGKILL)
    assert all(map(is_gone, server.below))


def test_service_that_cannot_start_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "hotloop.sqlite3").write_text("this is no database, and long enough to be read")
    with (
        pytest.raises(AssertionError, match="it is no SQLite file"),
        running_server(tmp_path, api_processes=2),
    ):
        pass
