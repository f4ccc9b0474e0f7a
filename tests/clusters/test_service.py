"""A service with a Ray and a Dask cluster, in every way in which it is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hotloop.app.names import CLUSTERS
from hotloop.kernels import known_kernels
from tests.examples.conftest import wait_loaded
from tests.examples.test_served import COUNT, checksum, upload
from tests.examples.workloads import FOLDER, WORKLOADS
from tests.fixtures.server import FAST, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

on_each = pytest.mark.parametrize("engine", sorted(CLUSTERS))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    modules = ",".join(f"hotloop_examples.{name}" for name in MODULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(FOLDER))
        addresses = {f"{name}_address": "local" for name in CLUSTERS}
        folder = tmp_path_factory.mktemp("data")
        with running_server(folder, run_hosts=1, workloads=modules, **addresses) as server:
            wait_loaded(server)
            yield server


MODULES = ("american", "bytes_hash", "dtw", "haversine", "mandelbrot")


@on_each
@pytest.mark.parametrize("kernel", known_kernels("loops"))
def test_built_in_kernels_are_equal_to_sequential(server: Server, engine: str, kernel: str) -> None:
    body: dict[str, Any] = {"items_count": 2_000, "db": "none", "cache": "none"}
    body |= {"kernel": kernel, "parameters": FAST}
    wanted = server.run("sequential", **body).json()["checksum"]
    found = server.run(engine, **body).json()
    assert (found["checksum"], found["effective_workers"]) == (wanted, 2)


@on_each
@pytest.mark.parametrize("kernel", ["python", "numba"])
@pytest.mark.parametrize("name", WORKLOADS)
def test_own_workloads_are_equal_to_their_function(
    server: Server, engine: str, kernel: str, name: str
) -> None:
    result = upload(server, name, strategy=engine, kernel=kernel)
    assert (result["checksum"], result["failed_items"]) == (checksum(name), 0)


@on_each
def test_background_task_is_executed(server: Server, engine: str) -> None:
    task_id = server.submit(items_count=COUNT, db="none", cache="none", strategy=engine)
    assert server.ended(task_id)["strategy"] == engine


def test_clusters_are_listed_measured_and_compared(server: Server) -> None:
    names = [each["name"] for each in server.client.get("/api/v1/tasks").json()["strategies"]]
    assert names[-2:] == ["ray", "dask"]
    health = server.client.get("/health/ready").json()["clusters"]
    assert {each["name"]: each["state"] for each in health} == dict.fromkeys(CLUSTERS, "up")

    query: dict[str, Any] = {"items_count": 100_000, "db": "none", "cache": "none", "limit": 100}

    def measured() -> list[Any]:
        asked = server.client.get("/api/v1/tasks/recommendations", params=query | {"wait": True})
        return list(asked.json()["calibration"]["clusters"])

    wait_until(lambda: len(measured()) == 2, "both are measured", 120)
    for each in measured():
        assert each["workers"] == 2
        assert 0 < each["parcel_seconds"] < 1
    for engine in CLUSTERS:
        given = query | {"strategy": engine}
        answer = server.client.get("/api/v1/tasks/recommendations", params=given).json()
        assert answer["recommended"]["strategy"] == engine
        assert answer["recommended"]["predicted_seconds"] > 0

    body = {"items_count": 5_000, "db": "none", "cache": "none", "kernels": ["cython"], "rounds": 1}
    compared = server.client.post("/api/v1/tasks/compare", json=body).json()
    assert compared["outputs_equal"] is True
    seen = {each["strategy"]: each["reason"] for each in compared["cells"]}
    assert set(CLUSTERS) <= {name for name, reason in seen.items() if reason is None}
