"""One request is found in the log of every process that worked for it; a secret in none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

LOOPS = {"items_count": 20, "batch_size": 10, "db": "none", "cache": "none", "kernel": "python"}
SECRET = "planted-secret"


def lines(server: Server) -> list[dict[str, Any]]:
    return [json.loads(line) for line in list(server.log)]


def processes(server: Server, request_id: str) -> set[str]:
    return {one["process"] for one in lines(server) if one.get("request_id") == request_id}


@pytest.mark.long
def test_request_and_task_are_named_by_every_process(tmp_path: Path) -> None:
    with running_server(tmp_path, log_format="json", log_level="debug", run_hosts=1) as server:
        headers = {"X-Request-ID": "now.1"}
        answer = server.client.post(
            "/api/v1/tasks/multiprocessing", json=LOOPS | {"workers": 2}, headers=headers
        )
        task_id = answer.json()["task_id"]
        everywhere = {"api", "run_host", "worker"}
        wait_until(lambda: processes(server, "now.1") == everywhere, "all have written")
        own = [one for one in lines(server) if one.get("request_id") == "now.1"]
        assert {one["task_id"] for one in own if one["logger"] != "hotloop.app.http.access"} == {
            task_id
        }
        ended = [one for one in own if one["message"] == "run ended"]
        assert [(one["status"], one["items_processed"]) for one in ended] == [("completed", 20)]

        body = LOOPS | {"strategy": "concurrent-futures", "workers": 2}
        headers = {"X-Request-ID": "later.2"}
        accepted = server.client.post("/api/v1/tasks/background", json=body, headers=headers)
        assert accepted.status_code == 202
        wait_until(lambda: processes(server, "later.2") == everywhere, "all have written")
        tasks = {one.get("task_id") for one in lines(server) if one["process"] == "worker"}
        assert tasks == {task_id, accepted.json()["task_id"]}


COMPARISON = {
    "items_count": 20,
    "batch_size": 10,
    "workers": 2,
    "rounds": 1,
    "db": "none",
    "cache": "none",
    "strategies": ["multiprocessing"],
    "kernels": ["python"],
}


@pytest.mark.long
@pytest.mark.parametrize("prefer", ["", "respond-async"])
def test_comparison_is_named_by_every_process_and_counted(tmp_path: Path, prefer: str) -> None:
    with running_server(tmp_path, log_format="json", log_level="debug", run_hosts=1) as server:
        headers = {"X-Request-ID": "versus.3", "Prefer": prefer}
        answer = server.client.post("/api/v1/tasks/compare", json=COMPARISON, headers=headers)
        assert answer.is_success, answer.text
        task_id = answer.json()["task_id"]
        wait_until(
            lambda: any(one["message"] == "comparison ended" for one in lines(server)), "it ends"
        )
        everywhere = {"api", "run_host", "worker"}
        wait_until(lambda: processes(server, "versus.3") == everywhere, "all have written")
        own = [one for one in lines(server) if one.get("request_id") == "versus.3"]
        assert {one["task_id"] for one in own if one["logger"] != "hotloop.app.http.access"} == {
            task_id
        }
        (ended,) = [one for one in own if one["message"] == "comparison ended"]
        assert (ended["status"], ended["items_processed"]) == ("completed", 2)
        metrics = server.client.get("/metrics").text
        assert 'hotloop_comparisons_total{status="completed"} 1.0' in metrics
        assert "hotloop_comparison_measurements_total 2.0" in metrics
        assert "hotloop_runs_total{" not in metrics


@pytest.mark.long
@pytest.mark.parametrize("form", ["console", "json"])
def test_secrets_are_in_no_line(tmp_path: Path, form: str) -> None:
    settings = {
        "log_format": form,
        "log_level": "debug",
        "run_hosts": 1,
        # Nobody answers there.
        "redis_url": f"redis://:{SECRET}@127.0.0.1:9/0",
        "pinot_url": "http://127.0.0.1:9",
        "pinot_authorization": f"Bearer {SECRET}",
    }
    with running_server(tmp_path, **settings) as server:
        body = {"items_count": 3, "db": "pinot", "cache": "redis", "timeout_seconds": 3}
        for strategy in ("multiprocessing", "async-batch"):
            server.run(strategy, **body)
        server.client.get(f"/{SECRET}?key={SECRET}", headers={"Authorization": SECRET})
        wait_until(lambda: any("404" in line for line in server.log), "the last request is told")
        server.stop()
        assert not [line for line in server.log if SECRET in line]
        assert any("run ended" in line for line in server.log)


def test_database_that_cannot_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://me:{SECRET}@127.0.0.1:9/none"
    with (
        pytest.raises(AssertionError) as failed,
        running_server(tmp_path, database_url=url, log_format="json", store_wait_seconds=1),
    ):
        pass
    assert SECRET not in str(failed.value)
    assert "cannot be reached" in str(failed.value)
