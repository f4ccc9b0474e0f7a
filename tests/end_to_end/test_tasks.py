"""Tasks that are kept: state, results, listing, cancelling, clearing."""

from __future__ import annotations

import csv
import io
import json
import threading
from typing import Any

import httpx
import pytest

from app.names import StrategyName
from tests.fixtures.server import Server
from tests.fixtures.waiting import wait_until

FAST = {"cpu_iterations": 50, "outer_iterations": 5, "inner_iterations": 7}
QUICK: dict[str, Any] = {"items_count": 300, "db": "none", "cache": "none", "parameters": FAST}


def test_results_are_streamed_as_ndjson_and_csv(server: Server) -> None:
    result = server.run("threading", **QUICK).json()
    path = f"/api/v1/tasks/results/{result['task_id']}"
    ndjson = server.client.get(path)
    assert ndjson.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in ndjson.text.splitlines()]
    assert [row["item_id"] for row in rows] == list(range(300))
    assert rows[:5] == result["results"]

    as_csv = server.client.get(path, headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"].startswith("text/csv")
    parsed = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [
        {"item_id": int(r["item_id"]), "loop": float(r["loop"]), "nested": int(r["nested"])}
        for r in parsed
    ] == rows
    assert server.client.get(path, headers={"Accept": "image/png"}).status_code == 406


def test_status_of_a_finished_task_has_its_result(server: Server) -> None:
    result = server.run("sequential", **QUICK).json()
    view = server.client.get(f"/api/v1/tasks/status/{result['task_id']}").json()
    assert view["status"] == "completed"
    assert view["progress"] == 1
    assert view["result"] == result


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_running_task_shows_progress_refuses_results_and_can_be_cancelled(
    server: Server, strategy: StrategyName
) -> None:
    answers: list[httpx.Response] = []
    body = QUICK | {"items_count": 5_000, "batch_size": 20, "workers": 2, "db": "simulated"}
    body |= {"db_delay_ms": 40, "io_concurrency": 20}
    running = threading.Thread(target=lambda: answers.append(server.run(strategy, **body)))
    running.start()
    view = _wait_for_running(server)
    path = f"/api/v1/tasks/results/{view['task_id']}"
    assert server.client.get(path).status_code == 409
    assert view["result"] is None
    assert 0 < view["progress"] < 1
    assert view["estimated_remaining_seconds"] > 0

    cancelled = server.client.delete(f"/api/v1/tasks/{view['task_id']}")
    running.join()
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    assert answers[0].status_code == 409
    assert answers[0].json()["task_id"] == view["task_id"]
    # idempotent, and what was finished can be read
    again = server.client.delete(f"/api/v1/tasks/{view['task_id']}").json()
    assert again == cancelled.json()
    rows = server.client.get(path).text.splitlines()
    assert 0 < len(rows) == again["items_processed"]


def _wait_for_running(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def running_with_progress() -> bool:
        listed = server.client.get("/api/v1/tasks/results?status=running").json()["items"]
        if listed:
            found.update(server.client.get(listed[0]["links"]["status"]).json())
        return bool(found.get("items_processed"))

    wait_until(running_with_progress, "a task runs and has progress")
    return found


def test_client_that_leaves_cancels_its_run(server: Server) -> None:
    with httpx.Client(base_url=server.url) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.post(
            "/api/v1/tasks/sequential",
            json=QUICK | {"db": "simulated", "items_count": 250},
            timeout=1.0,
        )

    def cancelled() -> bool:
        newest = server.client.get("/api/v1/tasks/results?limit=1").json()["items"][0]
        return (newest["total_items"], newest["status"]) == (250, "cancelled")

    wait_until(cancelled, "the run of the client that left is cancelled")


def test_listing_filters_and_pages_newest_first(server: Server) -> None:
    for strategy in ("sequential", "threading", "sequential"):
        assert server.run(strategy, **QUICK, kernel="python").status_code == 200
    page = server.client.get("/api/v1/tasks/results?limit=2&kernel=python").json()
    assert len(page["items"]) == 2
    assert page["total"] >= 3
    assert page["items"][0]["created_at"] >= page["items"][1]["created_at"]
    following = server.client.get(page["next"]).json()
    assert following["offset"] == 2
    assert not {t["task_id"] for t in page["items"]} & {t["task_id"] for t in following["items"]}
    only = server.client.get("/api/v1/tasks/results?strategy=threading").json()["items"]
    assert {t["strategy"] for t in only} == {"threading"}


def test_clearing_removes_finished_tasks_and_their_files(server: Server) -> None:
    task_id = server.run("sequential", **QUICK).json()["task_id"]
    assert server.client.delete("/api/v1/tasks/results").json()["deleted"] >= 1
    assert server.client.get("/api/v1/tasks/results").json()["total"] == 0
    for path in (f"results/{task_id}", f"status/{task_id}"):
        assert server.client.get(f"/api/v1/tasks/{path}").status_code == 404
    assert server.client.delete(f"/api/v1/tasks/{task_id}").status_code == 404
