"""Own workloads in a real service: served, predicted, compared, shown, and reloaded when edited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.own_modules import AREA, TURNS, UNTIL, write
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ITEMS: dict[str, Any] = {"items_count": 100, "db": "none", "cache": "none"}


def own(server: Server) -> list[tuple[str | None, str]]:
    answer = server.client.get("/api/v1/tasks/kernels").json()
    return [(each["workload"], each["state"]) for each in answer["own_workloads"]]


def wait_loaded(server: Server) -> None:
    def is_loaded() -> bool:
        found = own(server)
        return bool(found) and "loading" not in {state for _, state in found}

    wait_until(is_loaded, "all is loaded", 60, 0.02)


def first_results(server: Server, workload: str) -> list[float]:
    answer = server.run("sequential", workload=workload, **ITEMS)
    assert answer.status_code == 200, answer.text
    return [row["result"] for row in answer.json()["results"]]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("own")
    return ",".join(map(str, (write(folder, "turns", TURNS), write(folder, "until", UNTIL))))


@pytest.fixture(scope="module")
def server(paths: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), workloads=paths) as server:
        early = server.run("sequential", workload="turns", **ITEMS)
        assert early.status_code in (200, 503), early.text
        if early.status_code == 503:
            assert early.headers["Retry-After"] == "1"
        wait_loaded(server)
        yield server


@pytest.mark.parametrize("workload", ["turns", "until"])
def test_recommendation_knows_its_costs(server: Server, workload: str) -> None:
    assert own(server) == [("turns", "available"), ("until", "available")]
    query: dict[str, Any] = {"workload": workload, **ITEMS, "items_count": 5_000}
    answer = server.client.get("/api/v1/tasks/recommendations", params=query)
    assert answer.status_code == 200, answer.text
    assert answer.json()["recommended"]["kernel"] == "numba"
    kernels = answer.json()["calibration"]["kernels"]
    costs = {k["kernel"]: k["seconds_per_item"] for k in kernels if k["workload"] == workload}
    assert 0 < costs["numba"] < costs["python"]


def test_comparison_and_background_task_end(server: Server) -> None:
    body = {"workload": "turns", **ITEMS, "rounds": 1, "strategies": ["sequential", "threading"]}
    compared = server.client.post("/api/v1/tasks/compare", json=body)
    assert compared.status_code == 200, compared.text
    assert compared.json()["outputs_equal"] is True
    task = server.submit(workload="until", strategy="auto", **ITEMS)
    assert server.ended(task)["items_processed"] == 100


def test_unknown_workload_is_refused_once_all_are_known(server: Server) -> None:
    unknown = server.run("sequential", workload="nothing", **ITEMS)
    assert unknown.status_code == 422, unknown.text


def test_second_start_examines_nothing(paths: str, tmp_path: Path) -> None:
    def examined(server: Server) -> list[bool]:
        kernels = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
        return [kernel["examined"] for kernel in kernels]

    with running_server(tmp_path, workloads=paths) as server:
        wait_loaded(server)
        wait_until(lambda: all(examined(server)), "all are examined by themselves", 100, 0.1)
    kept = sorted((tmp_path / "examined").iterdir())
    assert len(kept) == 2
    stamps = [path.stat().st_mtime_ns for path in kept]
    with running_server(tmp_path, workloads=paths) as server:
        wait_loaded(server)
        assert all(examined(server))
        first_results(server, "turns")
    assert sorted((tmp_path / "examined").iterdir()) == kept
    assert [path.stat().st_mtime_ns for path in kept] == stamps


def test_edited_code_is_served_without_a_restart(tmp_path: Path) -> None:
    path = write(tmp_path, "area", AREA)
    data = tmp_path / "data"
    data.mkdir()
    with running_server(data, workloads=path, reload=True, run_hosts=1) as server:
        wait_loaded(server)
        before = first_results(server, "area")

        write(tmp_path, "area", AREA.replace("3.0", "6.0"))
        wait_until(lambda: first_results(server, "area") != before, "it is the new code", 60)
        assert first_results(server, "area") == [2 * each for each in before]

        write(tmp_path, "area", "def area(")
        wait_until(lambda: own(server) == [(None, "failed")], "it has failed", 60, 0.05)
        refused = server.run("sequential", workload="area", **ITEMS)
        assert refused.status_code == 422, refused.text
        assert server.run("sequential", **ITEMS).status_code == 200

        write(tmp_path, "area", AREA)
        wait_until(lambda: own(server) == [("area", "available")], "it is back", 60, 0.05)
        assert first_results(server, "area") == before


def test_workload_of_a_module_is_found_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "prices_of_a_test", AREA)
    data = tmp_path / "data"
    data.mkdir()
    with running_server(
        data, workloads="prices_of_a_test:area", workloads_dir=tmp_path, api_processes=2
    ) as server:
        wait_loaded(server)
        assert first_results(server, "area")
    with running_server(data, workloads="prices_of_a_test:area") as server:
        wait_loaded(server)
        (each,) = server.client.get("/api/v1/tasks/kernels").json()["own_workloads"]
        assert each["reason"].startswith("there is no module prices_of_a_test; install it")
