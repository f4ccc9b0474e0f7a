"""A service that has examples/workloads installed serves each of them in every way."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.examples.conftest import Start
from tests.examples.workloads import FLIGHTS, WORKLOADS
from tests.fixtures.server import Server

pytestmark = pytest.mark.long

COUNT = 300
PARAMETERS: dict[str, dict[str, Any]] = {
    "american": {"steps": 50, "kind": "call"},
    "mandelbrot": {"limit": 200},
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
    answer = server.client.get("/api/v1/tasks/kernels").json()
    (shown,) = (each for each in answer["workloads"] if each["name"] == name)
    declared = WORKLOADS[name].declaration
    assert [each["name"] for each in shown["columns_in"]] == [c.name for c in declared.columns_in]
    assert [each["name"] for each in shown["parameters"]] == [p.name for p in declared.parameters]
    kernels = {each["kernel"]: each for each in answer["kernels"] if each["workload"] == name}
    assert {kernel: each["available"] for kernel, each in kernels.items()} == {
        "python": True,
        "numba": True,
    }


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


def test_background_task_of_each_outlives_a_kill(start: Start) -> None:
    """Each service finishes the task that the one before had in work when it was killed."""
    waiting: str | None = None
    for name, following in zip([None, *WORKLOADS], [*WORKLOADS, None], strict=True):
        with start() as server:
            server.wait_ready()
            if name is not None and waiting is not None:
                done = server.ended(waiting)
                assert done["attempts"] == 2
                assert done["result"]["checksum"] == checksum(name)
                assert done["result"]["workload"] == name
            if following is not None:
                waiting = submitted(server, following)
                server.wait_progress(waiting)
                assert server.view(waiting)["status"] == "running"
                server.stop(signal.SIGKILL)


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
