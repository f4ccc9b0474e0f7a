"""`schemas.comparison`: comparisons on the real service, and their survival of deaths."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

PATH = "/api/v1/tasks/compare"
QUICK: dict[str, Any] = {
    "items_count": 60,
    "batch_size": 20,
    "workers": 2,
    "rounds": 3,
    "db": "none",
    "cache": "none",
    "parameters": {"cpu_iterations": 200, "outer_iterations": 5, "inner_iterations": 5},
}
SLOW: dict[str, Any] = QUICK | {
    "db": "simulated",
    "db_delay_ms": 10,
    "strategies": ["sequential", "async-batch"],
    "kernels": ["python", "cython"],
}
"""A comparison that takes some seconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("data"), run_hosts=2) as server:
        server.wait_ready()
        yield server


def compare(server: Server, **body: Any) -> dict[str, Any]:
    response = server.client.post(PATH, json=body, timeout=110)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def check_complete(comparison: dict[str, Any], rounds: int) -> None:
    """Every cell has all its rounds, and the figures agree with each other and the verdict."""
    assert comparison["status"] == "completed"
    assert comparison["outputs_equal"] is True
    assert comparison["mismatches"] == []
    for cell in comparison["cells"]:
        assert cell["status"] in ("measured", "projected"), cell
        assert cell["rounds"] == len(cell["seconds"]) == rounds
        low, high = cell["interval_seconds"]["low"], cell["interval_seconds"]["high"]
        assert 0 < low <= cell["median_seconds"] <= high
        assert cell["setup_seconds"] is not None
        assert cell["peak_memory_bytes"] >= 0
        assert cell["failed_items"] == 0
    named = comparison["tied"] or [comparison["winner"]]
    assert all(name["strategy"] != "background" for name in named)
    assert named[0]["strategy"] in comparison["verdict"]


def checksums(comparison: dict[str, Any], *kernels: str) -> set[str]:
    return {c["checksum"] for c in comparison["cells"] if c["kernel"] in kernels}


def test_all_cells_are_compared(server: Server) -> None:
    answer = compare(server, **QUICK)
    check_complete(answer, 3)
    assert len(answer["cells"]) == 6 * 3 + 1
    assert len(checksums(answer, "python")) == 1
    assert len(checksums(answer, "cython", "numba")) == 1
    by_name = {(c["strategy"], c["kernel"]): c for c in answer["cells"]}
    kernel = answer["kernel"]
    fields = {
        "sequential": "sequential_time",
        "threading": "threading_time",
        "multiprocessing": "multiprocessing_time",
        "async-batch": "batch_async_time",
        "concurrent-futures": "concurrent_futures_time",
        "hybrid": "hybrid_time",
        "background": "background_time",
    }
    for strategy, field in fields.items():
        assert answer[field] == by_name[strategy, kernel]["median_seconds"] > 0
    assert by_name["sequential", "python"]["speedup"] == 1
    best = answer["best_approach"].split(" = ")[0]
    assert answer["improvement_factor"] == pytest.approx(
        answer["sequential_time"] / answer[fields[best]]
    )
    # Set-up counts the start of processes; the rounds do not.
    for kernel in ("python", "cython", "numba"):
        assert by_name["multiprocessing", kernel]["setup_seconds"] > 0.05
        assert by_name["multiprocessing", kernel]["effective_workers"] == 2
        assert by_name["sequential", kernel]["effective_workers"] == 1
    assert answer["host"]["usable_cpus"] >= 1
    assert answer["host"]["load_after"] is not None
    with closing(sqlite3.connect(server.data_dir / "hotloop.sqlite3")) as store:
        assert store.execute("SELECT count(*) FROM tasks WHERE kind = 'part'").fetchone() == (0,)
    # Numba takes 60 MiB and stops the event loop while it is loaded: only run hosts load it.
    maps = Path(f"/proc/{server.process.pid}/maps")
    assert not maps.exists() or "llvmlite" not in maps.read_text()


def test_curl_command_runs_the_winner(server: Server) -> None:
    answer = compare(server, **QUICK | {"rounds": 1, "strategies": ["hybrid", "threading"]})
    assert answer["curl"].startswith(f"curl -s {server.url}/api/v1/tasks/")
    done = subprocess.run(["sh", "-c", answer["curl"]], capture_output=True, text=True, check=True)
    run = httpx.Response(200, text=done.stdout).json()
    fastest = answer["winner"] or answer["tied"][0]
    assert {name: run[name] for name in ("strategy", "kernel")} == fastest
    assert run["total_items"] == 60
    expected = {c["checksum"] for c in answer["cells"] if c["kernel"] == run["kernel"]}
    assert {run["checksum"]} == expected


def test_slow_cells_are_projected_and_ranked(server: Server) -> None:
    body = QUICK | {"items_count": 1_000, "db": "simulated", "db_delay_ms": 50, "batch_size": 5_000}
    body |= {"strategies": ["sequential", "async-batch"], "kernels": ["cython"], "rounds": 2}
    answer = compare(server, **body | {"budget_seconds": 12})
    sequential, at_once = answer["cells"]
    assert (sequential["status"], at_once["status"]) == ("projected", "measured")
    assert sequential["measured_items"] < 1_000 == at_once["measured_items"]
    # A thousand waits of 50 ms one after another take at least this long.
    assert sequential["median_seconds"] > 50
    assert sequential["interval_seconds"]["high"] > 1.05 * sequential["median_seconds"]
    assert answer["outputs_equal"] is True
    assert answer["winner"] == {"strategy": "async-batch", "kernel": "cython"}


def test_items_of_the_body_are_compared(server: Server) -> None:
    items = [{"item_id": 7 * n, "value": n / 3, "offset": n} for n in range(1, 9)]
    body = {name: value for name, value in QUICK.items() if name != "items_count"}
    body |= {"items": items, "rounds": 1, "strategies": ["sequential", "hybrid"]}
    answer = compare(server, **body)
    check_complete(answer, 1)
    assert answer["items_count"] == 8
    done = subprocess.run(["sh", "-c", answer["curl"]], capture_output=True, text=True, check=True)
    assert [row["item_id"] for row in httpx.Response(200, text=done.stdout).json()["results"]] == [
        7 * n for n in range(1, 6)
    ]


def test_comparison_is_shown_and_listed_as_a_task(server: Server) -> None:
    task_id = server.submit("compare", **SLOW)
    server.wait_progress(task_id, 2)
    live = server.view(task_id)
    assert (live["kind"], live["strategy"], live["kernel"]) == ("comparison", None, None)
    assert live["comparison"]["winner"] is None
    assert any(cell["status"] == "pending" for cell in live["comparison"]["cells"])
    done = server.ended(task_id)
    check_complete(done["comparison"], 3)
    assert done["result"] is None
    assert done["items_processed"] == done["total_items"] == 16
    assert done["progress"] == 1.0
    listed = server.client.get("/api/v1/tasks/results?kind=comparison").json()["items"]
    assert task_id in [task["task_id"] for task in listed]
    assert {task["kind"] for task in listed} == {"comparison"}
    response = server.client.get(f"/api/v1/tasks/results/{task_id}")
    assert response.status_code == 409
    assert "no results of items" in response.json()["detail"]


def test_same_idempotency_key_gives_the_same_comparison(server: Server) -> None:
    body = QUICK | {"rounds": 1, "strategies": ["hybrid"]}
    first, again = (server.submit("compare", "a-key", **body) for _ in range(2))
    assert first == again
    other = server.client.post(
        PATH,
        json=body | {"rounds": 2},
        headers={"Prefer": "respond-async", "Idempotency-Key": "a-key"},
    )
    assert other.status_code == 422
    server.ended(first)


def test_another_run_at_the_same_time_flags_cells_as_disturbed(server: Server) -> None:
    ending = threading.Event()
    body = {name: value for name, value in QUICK.items() if name != "rounds"}

    def run_on() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not ending.is_set():
                client.post("/api/v1/tasks/sequential", json=body).raise_for_status()

    beside = threading.Thread(target=run_on)
    beside.start()
    try:
        disturbed = compare(server, **SLOW | {"rounds": 2})
    finally:
        ending.set()
        beside.join()
    assert any("disturbed" in cell["flags"] for cell in disturbed["cells"])
    alone = compare(server, **SLOW | {"rounds": 1})
    assert not any("disturbed" in cell["flags"] for cell in alone["cells"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"budget_seconds": 5_000}, "budget_seconds"),
        ({"exact": True, "items_count": 1_000}, "items_count"),
        ({"workload": "knots"}, "workload"),
        ({"db": "pinot"}, "db"),
    ],
)
def test_impossible_comparison_is_refused_and_names_the_field(
    server: Server, body: dict[str, Any], field: str
) -> None:
    before = server.client.get("/api/v1/tasks/results").json()["total"]
    response = server.client.post(PATH, json=body)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert server.client.get("/api/v1/tasks/results").json()["total"] == before


def test_resumed_comparison_keeps_its_measurements(server: Server) -> None:
    task_id = server.submit("compare", **SLOW)
    server.wait_progress(task_id, 5)
    assert server.client.delete(f"/api/v1/tasks/{task_id}").json()["status"] == "cancelled"
    stopped = server.view(task_id)
    kept = stopped["items_processed"]
    assert 5 <= kept < stopped["total_items"]
    assert stopped["comparison"]["winner"] is None
    assert server.client.post(f"/api/v1/tasks/{task_id}/resume").status_code == 202
    done = server.ended(task_id)
    check_complete(done["comparison"], 3)
    for before, after in zip(
        stopped["comparison"]["cells"], done["comparison"]["cells"], strict=True
    ):
        assert after["seconds"][: len(before["seconds"])] == before["seconds"]


def test_client_that_leaves_cancels_its_comparison(server: Server) -> None:
    with pytest.raises(httpx.ReadTimeout):
        server.client.post(PATH, json=SLOW | {"rounds": 50}, timeout=2)

    def newest() -> dict[str, Any]:
        (task,) = server.client.get("/api/v1/tasks/results?kind=comparison&limit=1").json()["items"]
        return dict(task)

    wait_until(lambda: newest()["status"] == "cancelled", "the comparison is cancelled")
    assert newest()["task_type"] == "synchronous"


def test_killed_run_host_costs_only_the_cell_in_work(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        task_id = server.submit("compare", **SLOW)
        server.wait_progress(task_id, 5)
        (host,) = server.run_hosts()
        host.kill()
        done = server.ended(task_id)
        check_complete(done["comparison"], 3)
        assert done["attempts"] == 1
        assert not host.is_running()


def test_comparison_of_a_killed_service_goes_on_after_the_next_start(tmp_path: Path) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        task_id = server.submit("compare", **SLOW)
        server.wait_progress(task_id, 5)
        server.stop(signal.SIGKILL)
    with running_server(tmp_path, run_hosts=1) as server:
        before = server.view(task_id)
        done = server.ended(task_id)
        check_complete(done["comparison"], 3)
        assert done["attempts"] == 2
        assert before["items_processed"] >= 5
        kept = [cell["seconds"] for cell in before["comparison"]["cells"]]
        again = [cell["seconds"] for cell in done["comparison"]["cells"]]
        assert [new[: len(old)] for old, new in zip(kept, again, strict=True)] == kept
