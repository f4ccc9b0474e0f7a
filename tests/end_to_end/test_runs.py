"""`schemas.results`, `strategies.registry`: runs over HTTP by strategies and kernels."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.processes import tree
from tests.fixtures.server import FAST, LITTLE, SAMPLE, Server, running_server

KERNELS = kernels.available_kernels("loops")
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
    for strategy in LOCAL_STRATEGIES:
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


@pytest.mark.parametrize(
    ("strategy", "kernel"),
    list(zip(("multiprocessing", "hybrid", "threading"), KERNELS, strict=False)),
)
def test_first_item_has_the_defined_result(server: Server, strategy: str, kernel: str) -> None:
    """Value 0 and offset 0 with default parameters; the contract of strategies is tested apart."""
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


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_delays_are_waited_for_and_pools_stay_warm(server: Server, strategy: StrategyName) -> None:
    body = LITTLE | {"workers": 2, "batch_size": 5, "parameters": FAST}
    waiting = {"db": "simulated", "db_delay_ms": 20, "cache": "simulated", "io_concurrency": 10}
    # Two run hosts take turns, so that both have their workers after two runs.
    for _ in range(2):
        result = completed(server.run(strategy, **body | waiting, redis_delay_ms=[1, 5]))
        assert result["io_seconds"] >= 20 * 0.021 / 10
        assert result["duration_seconds"] >= 2 * 0.021
    before = set(tree(server.process.pid))
    instant = {"simulate_db_delay": False, "simulate_redis_delay": False}
    for _ in range(2):
        result = completed(server.run(strategy, **body | waiting | instant))
        assert result["io_seconds"] == 0
    assert set(tree(server.process.pid)) <= before  # no worker is started anew


def test_result_has_all_measurements(server: Server) -> None:
    result = completed(
        server.run("threading", items_count=20_000, batch_size=1_000, workers=3, **NO_IO)
    )
    assert result["task_type"] == "synchronous"
    assert result["requested_workers"] == 3
    assert result["effective_workers"] == 3
    assert result["batch_size"] == 1_000
    assert result["duration_seconds"] > 0
    assert result["setup_seconds"] >= 0
    assert result["throughput_items_per_second"] == pytest.approx(
        20_000 / result["duration_seconds"]
    )
    assert result["cpu_seconds"] > 0
    assert 0 < result["cpu_utilization"] <= 1
    # Memory of this run alone, without what the run host always holds.
    assert 0 <= result["peak_memory_bytes"] < 20_000_000
    assert result["failed_items"] == 0
    assert result["error_rate"] == 0
    assert result["errors"] == []
    lag = result["event_loop_lag_ms"]
    assert 0 <= lag["p50"] <= lag["p99"] <= lag["max"]
    assert result["start_time"] < result["end_time"]


def test_kernel_auto_is_the_fastest_measured_one(server: Server) -> None:
    listed = server.client.get("/api/v1/tasks/kernels").json()["kernels"]
    fastest = min((k for k in listed if k["available"]), key=lambda k: k["ns_per_item"])
    result = completed(server.run("sequential", items_count=1, db="none", cache="none"))
    assert result["kernel"] == fastest["kernel"]


def test_run_of_hours_becomes_a_background_task(server: Server) -> None:
    response = server.run("multiprocessing", items_count=50_000, workers=8)
    assert response.status_code == 202
    task = response.json()
    assert response.headers["location"] == task["links"]["status"]
    assert task["estimated_seconds"] == pytest.approx(50_000 * 1.0055 / 8, rel=0.1)
    assert "over the limit of 300 s" in task["message"]
    path = task["links"]["cancel"]
    assert server.client.delete(path).status_code == 200  # cancelled
    assert server.client.delete(path).status_code == 200  # forgotten


def test_run_over_its_deadline_answers_504_and_keeps_finished_items(server: Server) -> None:
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


@pytest.mark.long
@pytest.mark.skipif("cython" not in KERNELS, reason="no compiled kernel")
def test_forced_instruction_set_is_shown_and_changes_no_bit(server: Server, tmp_path: Path) -> None:
    plain = kernels.instruction_sets("loops", "cython")[0]
    runs = [
        (strategy, {"items_count": 130, "batch_size": 65, "workers": 2, "kernel": kernel} | NO_IO)
        for strategy in ("threading", "multiprocessing")
        for kernel in ("cython", "numba")
    ]
    with running_server(tmp_path, run_hosts=1, instruction_set=plain) as forced:
        forced.wait_ready()
        listed = forced.client.get("/api/v1/tasks/kernels").json()["kernels"]
        assert [k["instruction_set"] for k in listed if k["kernel"] == "cython"] == [plain]
        checksums = {
            completed(one.run(strategy, **body, parameters={"cpu_iterations": 300}))["checksum"]
            for strategy, body in runs
            for one in (server, forced)
        }
    assert len(checksums) == 1
