"""A service that has examples/workloads installed serves each of them in every way."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.examples.conftest import Start, wait_loaded
from tests.examples.workloads import FLIGHTS, WORKLOADS
from tests.fixtures.server import Server

pytestmark = pytest.mark.long

COUNT = 300
PARAMETERS: dict[str, dict[str, Any]] = {
    "american": {"steps": 50, "kind": "call"},
    "mandelbrot": {"max_turns": 200},
}
names = pytest.mark.parametrize("name", WORKLOADS)


def columns(name: str) -> dict[str, NDArray[Any]]:
    """Real flights for haversine, made-up items for the others."""
    declared = WORKLOADS[name].declaration
    if name != "haversine":
        made: dict[str, NDArray[Any]] = declared.simulated_columns(np.arange(COUNT))
        return made
    flights = np.genfromtxt(FLIGHTS, delimiter=",", names=True, max_rows=COUNT)
    return {column.name: flights[column.name] for column in declared.columns_in}


def csv(name: str) -> bytes:
    """The items as a CSV file; a vector is one field, its values parted by spaces."""
    given = columns(name)
    lines = [",".join(["item_id", *given])]
    for number, values in enumerate(zip(*(given[each].tolist() for each in given), strict=True)):
        fields = (v if isinstance(v, list) else [v] for v in values)
        lines.append(",".join([str(number), *(" ".join(map(repr, field)) for field in fields)]))
    return "\n".join([*lines, ""]).encode()


def checksum(name: str) -> str:
    """The checksum of the results, computed here."""
    outputs = WORKLOADS[name].run(columns(name), PARAMETERS.get(name), kernel="python")
    return checksum_text(rows_checksum(np.arange(COUNT), outputs))


def upload(server: Server, name: str, **query: Any) -> dict[str, Any]:
    answer = server.upload(csv(name), workload=name, **PARAMETERS.get(name, {}), **query)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


@names
def test_service_describes_it(server: Server, name: str) -> None:
    shown = described(server)["workloads"][name]
    declared = WORKLOADS[name].declaration
    assert [each["name"] for each in shown["columns_in"]] == [c.name for c in declared.columns_in]
    assert [each["name"] for each in shown["parameters"]] == [p.name for p in declared.parameters]


def described(server: Server) -> dict[str, Any]:
    """What the service shows, workloads by name and kernels by workload."""
    answer = server.client.get("/api/v1/tasks/kernels")
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    kernels: dict[str, Any] = {}
    for each in shown["kernels"]:
        kernels.setdefault(each["workload"], {})[each["kernel"]] = each["available"]
    return {"workloads": {each["name"]: each for each in shown["workloads"]}, "kernels": kernels}


@names
def test_upload_gives_the_same_by_every_way(server: Server, name: str) -> None:
    wanted = checksum(name)
    for strategy, kernel in (
        ("sequential", "python"),
        ("threading", "numba"),
        ("multiprocessing", "numba"),
    ):
        result = upload(server, name, strategy=strategy, kernel=kernel)
        assert (result["checksum"], result["failed_items"]) == (wanted, 0), (strategy, kernel)


@names
def test_recommendation_and_comparison(server: Server, name: str) -> None:
    asked: dict[str, Any] = {"workload": name, "items_count": COUNT, "db": "none", "cache": "none"}
    found = server.client.get("/api/v1/tasks/recommendations", params=asked)
    assert found.status_code == 200, found.text
    assert found.json()["workload"] == name
    body = {**asked, "rounds": 1, "strategies": ["sequential", "threading"]}
    compared = server.client.post("/api/v1/tasks/compare", json=body)
    assert compared.status_code == 200, compared.text
    assert compared.json()["outputs_equal"] is True, compared.json()["mismatches"]
    assert described(server)["kernels"][name] == {"python": True, "numba": True}


@names
def test_background_task_outlives_a_kill(start: Start, name: str) -> None:
    with start() as server:
        wait_loaded(server)
        task_id = submitted(server, name)
        server.wait_progress(task_id)
        assert server.view(task_id)["status"] == "running"
        server.stop(signal.SIGKILL)
    with start() as server:
        server.wait_ready()
        done = server.ended(task_id)
        assert done["attempts"] == 2
        assert (done["result"]["workload"], done["result"]["checksum"]) == (name, checksum(name))


def submitted(server: Server, name: str) -> str:
    """Upload the items for a task in the background, which a slow database holds up."""
    query: dict[str, Any] = {"workload": name, "strategy": "sequential", "kernel": "numba"}
    slow: dict[str, Any] = {"db": "simulated", "db_delay_ms": 10, "cache": "none", "batch_size": 10}
    answer: httpx.Response = server.client.post(
        "/api/v1/tasks/upload",
        params={**query, **slow, **PARAMETERS.get(name, {})},
        content=csv(name),
        headers={"Content-Type": "text/csv", "Prefer": "respond-async"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])
