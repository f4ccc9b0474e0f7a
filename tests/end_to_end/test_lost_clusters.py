"""A service whose Dask cluster cannot be reached, and that has no Ray cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.guarded import free_port
from tests.fixtures.server import LITTLE, SAMPLE, Server, running_server
from tests.fixtures.waiting import wait_until

PORT = free_port()


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    address = f"tcp://127.0.0.1:{PORT}"
    with running_server(tmp_path_factory.mktemp("data"), dask_address=address) as server:
        server.wait_ready()
        yield server


def dask_of(server: Server) -> dict[str, Any]:
    (found,) = server.client.get("/health/ready").json()["clusters"]
    return dict(found)


def test_health_shows_the_cluster_and_stays_ready(lost: Server) -> None:
    answer = lost.client.get("/health/ready")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    found = dask_of(lost)
    assert (found["name"], found["state"]) == ("dask", "down")
    assert "cannot be reached" in found["reason"]


def test_run_that_waits_is_refused_and_leaves_no_task(lost: Server) -> None:
    answer = lost.run("dask", **LITTLE)
    assert answer.status_code == 503, answer.text
    problem = answer.json()
    assert problem["type"] == "urn:hotloop:problem:cluster-lost"
    assert "the dask cluster is lost: its port cannot be reached" in problem["detail"]
    assert "choose another strategy" in problem["detail"]
    upload = lost.upload(SAMPLE.read_bytes(), strategy="dask")
    assert upload.json()["type"] == "urn:hotloop:problem:cluster-lost"
    listed = lost.client.get("/api/v1/tasks/results", params={"strategy": "dask"}).json()
    assert listed["total"] == 0
    assert lost.run("hybrid", **LITTLE).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "ray", {"json": LITTLE}),
        ("POST", "background", {"json": LITTLE | {"strategy": "ray"}}),
        ("GET", "recommendations", {"params": {"strategy": "ray"}}),
        ("POST", "compare", {"json": {"items_count": 10, "strategies": ["ray"]}}),
        (
            "POST",
            "upload",
            {
                "params": {"strategy": "ray"},
                "content": SAMPLE.read_bytes(),
                "headers": {"Content-Type": "text/csv"},
            },
        ),
    ],
)
def test_strategy_without_an_address_is_refused_and_names_the_setting(
    lost: Server, method: str, path: str, sent: dict[str, Any]
) -> None:
    answer = lost.client.request(method, f"/api/v1/tasks/{path}", **sent)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert "HOTLOOP_RAY_ADDRESS" in problem["detail"]
    assert "sequential, threading" in problem["detail"]
    assert problem["errors"][0]["field"] == "strategy"


def test_index_lists_what_the_service_offers(lost: Server) -> None:
    index = lost.client.get("/api/v1/tasks").json()
    names = [entry["name"] for entry in index["strategies"]]
    assert "dask" in names
    assert "ray" not in names


def test_background_task_waits_for_its_cluster(lost: Server) -> None:
    task_id = lost.submit(strategy="dask", **LITTLE)
    other = lost.submit(strategy="sequential", **LITTLE)
    wait_until(lambda: lost.view(other)["status"] == "completed", "others go on")
    assert lost.view(task_id)["status"] == "pending"
    cancelled = lost.client.delete(f"/api/v1/tasks/{task_id}")
    assert cancelled.status_code in (200, 202), cancelled.text
    wait_until(lambda: lost.view(task_id)["status"] == "cancelled", "it is cancelled")


def test_comparison_leaves_the_cluster_out_and_says_why(lost: Server) -> None:
    body = {"items_count": 20, "strategies": ["dask", "sequential"], "kernels": ["python"]}
    body |= {"rounds": 1, "db": "none", "cache": "none", "budget_seconds": 5}
    answer = lost.client.post("/api/v1/tasks/compare", json=body)
    assert answer.status_code == 200, answer.text
    reasons = {cell["strategy"]: cell["reason"] for cell in answer.json()["cells"]}
    assert reasons["dask"] == "the dask cluster cannot be reached"
    assert reasons["sequential"] is None


def test_health_shows_when_the_port_is_open_again(lost: Server) -> None:
    """A port is open, but nothing at it is a scheduler: a run finds out, and says so."""
    with socket.create_server(("127.0.0.1", PORT)):
        wait_until(lambda: dask_of(lost)["state"] == "up", "it is seen")
        assert dask_of(lost)["reason"] is None
    wait_until(lambda: dask_of(lost)["state"] == "down", "it is seen as down again")
