"""Runs by every strategy × kernel over HTTP."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from tests.fixtures.processes import tree
from tests.fixtures.server import SAMPLE, Server

KERNELS = kernels.available_kernels("loops")
FAST: dict[str, Any] = {"cpu_iterations": 50, "outer_iterations": 5, "inner_iterations": 7}
NO_IO: dict[str, Any] = {"db": "none", "cache": "none"}


def completed(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    assert result["status"] == "completed"
    assert result["error_message"] is None
    assert result["items_processed"] == result["total_items"]
    return result


@pytest.mark.long
def test_upload_through_all_cells_gives_one_checksum_per_kernel(server: Server) -> None:
    content = SAMPLE.read_bytes()
    checksums: dict[str, set[str]] = {name: set() for name in KERNELS}
    for strategy in StrategyName:
        for kernel in KERNELS:
            result = completed(
                server.upload(
                    content, strategy=strategy, kernel=kernel, batch_size=130, workers=2, **FAST
                )
            )
            assert (result["strategy"], result["kernel"]) == (strategy, kernel)
            assert result["total_items"] == 1_000
            assert len(result["results"]) == 5
            checksums[kernel].add(result["checksum"])
    assert {len(found) for found in checksums.values()} == {1}
    if {"cython", "numba"} <= set(KERNELS):
        assert checksums["cython"] == checksums["numba"]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("strategy", list(StrategyName))
def test_first_item_is_that_of_the_definition(
    server: Server, strategy: StrategyName, kernel: str
) -> None:
    """The very loops of the service that this one grew out of: value 0, offset 0."""
    items = [{"item_id": 0, "value": 0.0, "offset": 0}]
    result = completed(server.run(strategy, items=items, kernel=kernel))
    (row,) = result["results"]
    assert row == {"item_id": 0, "loop": pytest.approx(-40.70589819676604), "nested": 9_388_000}
    if kernel == "python":
        assert row["loop"] == -40.70589819676604


def test_inline_items_csv_and_ndjson_agree(server: Server) -> None:
    rows = [
        {"item_id": int(r["item_id"]), "value": float(r["value"]), "offset": int(r["offset"])}
        for r in csv.DictReader(io.StringIO(SAMPLE.read_text()))
    ]
    ndjson = "\n".join(map(json.dumps, rows)).encode()
    inline = completed(server.run("hybrid", items=rows, parameters=FAST))
    as_csv = completed(server.upload(SAMPLE.read_bytes(), **FAST))
    as_ndjson = completed(server.upload(ndjson, "application/x-ndjson", **FAST))
    assert inline["checksum"] == as_csv["checksum"] == as_ndjson["checksum"]
    assert inline["results"] == as_csv["results"] == as_ndjson["results"]


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_simulated_delays_are_waited_for(server: Server, strategy: StrategyName) -> None:
    result = completed(
        server.run(
            strategy,
            items_count=20,
            workers=2,
            batch_size=5,
            db_delay_ms=20,
            redis_delay_ms=[1, 5],
            io_concurrency=10,
            parameters=FAST,
        )
    )
    assert result["io_seconds"] >= 20 * 0.021 / 10
    assert result["duration_seconds"] >= 2 * 0.021
    instant = completed(
        server.run(
            strategy,
            items_count=20,
            simulate_db_delay=False,
            simulate_redis_delay=False,
            parameters=FAST,
        )
    )
    assert instant["io_seconds"] == 0


def test_result_has_every_field_measured(server: Server) -> None:
    result = completed(
        server.run("threading", items_count=2_000, batch_size=100, workers=3, **NO_IO)
    )
    assert result["task_type"] == "synchronous"
    assert result["requested_workers"] == 3
    assert result["effective_workers"] == 3
    assert result["batch_size"] == 100
    assert result["duration_seconds"] > 0
    assert result["setup_seconds"] >= 0
    assert result["throughput_items_per_second"] == pytest.approx(
        2_000 / result["duration_seconds"]
    )
    assert result["cpu_seconds"] > 0
    assert 0 < result["cpu_utilization"] <= 1
    # The run's own: not what the run host holds all its life.
    assert 0 <= result["peak_memory_bytes"] < 20_000_000
    assert result["failed_items"] == 0
    assert result["error_rate"] == 0
    assert result["errors"] == []
    lag = result["event_loop_lag_ms"]
    assert 0 <= lag["p50"] <= lag["p99"] <= lag["max"]
    assert result["start_time"] < result["end_time"]


def test_kernel_auto_is_the_fastest_as_measured(server: Server) -> None:
    listed = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
    fastest = min((k for k in listed if k["available"]), key=lambda k: k["ns_per_item"])
    result = completed(server.run("sequential", items_count=1, db="none", cache="none"))
    assert result["kernel"] == fastest["kernel"]


def test_showcase_of_hours_is_accepted_in_the_background(server: Server) -> None:
    response = server.run("multiprocessing", items_count=50_000, workers=8)
    assert response.status_code == 202
    task = response.json()
    assert response.headers["location"] == task["links"]["status"]
    assert task["estimated_seconds"] == pytest.approx(50_000 * 1.0055 / 8, rel=0.1)
    assert "over the limit of 300 s" in task["message"]
    path = task["links"]["cancel"]
    assert server.client.delete(path).status_code == 200  # cancelled
    assert server.client.delete(path).status_code == 200  # forgotten


def test_deadline_answers_504_with_what_was_finished(server: Server) -> None:
    response = server.run(
        "sequential", items_count=100, batch_size=5, db_delay_ms=50, timeout_seconds=1
    )
    assert response.status_code == 504
    problem = response.json()
    assert "timeout_seconds = 1" in problem["detail"]
    view = server.client.get(problem["links"]["status"]).json()
    assert view["status"] == "failed"
    assert 0 < view["items_processed"] < 100
    rows = server.client.get(problem["links"]["results"]).text.splitlines()
    assert len(rows) == view["items_processed"]


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_same_run_twice_uses_the_warm_pool(server: Server, strategy: StrategyName) -> None:
    body = {"items_count": 50, "db": "none", "cache": "none", "kernel": "python", "workers": 2}
    body["parameters"] = FAST
    # Two run hosts take turns, so that after two runs both have their workers.
    for _ in range(2):
        completed(server.run(strategy, **body))
    before = set(tree(server.process.pid))
    for _ in range(2):
        completed(server.run(strategy, **body))
    assert set(tree(server.process.pid)) == before
