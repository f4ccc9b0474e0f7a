"""`schemas.tasks`, `schemas.results`: state, results, listing, cancelling and clearing of stored
tasks.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hotloop.app.names import StrategyName
from hotloop.app.schemas.results import ExportFormat
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import QUICK, RunRequest, Server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ARROW = "application/vnd.apache.arrow.stream"


def test_results_are_streamed_in_every_format(server: Server) -> None:
    result = server.run("threading", **QUICK).json()
    path = f"/api/v1/tasks/results/{result['task_id']}"
    ndjson = server.client.get(path)
    assert ndjson.headers["content-type"].startswith("application/x-ndjson")
    rows = [json.loads(line) for line in ndjson.text.splitlines()]
    assert [row["item_id"] for row in rows] == list(range(300))
    assert rows[:5] == result["results"]
    assert server.view(result["task_id"])["result"] == result

    as_csv = server.client.get(path, headers={"Accept": "text/csv"})
    assert as_csv.headers["content-type"].startswith("text/csv")
    parsed = list(csv.DictReader(io.StringIO(as_csv.text)))
    assert [
        {"item_id": int(r["item_id"]), "loop": float(r["loop"]), "nested": int(r["nested"])}
        for r in parsed
    ] == rows
    assert server.client.get(path, headers={"Accept": "image/png"}).status_code == 406

    as_arrow = server.client.get(path, headers={"Accept": ARROW})
    assert as_arrow.headers["content-type"] == ARROW
    assert pa.ipc.open_stream(as_arrow.content).read_all().to_pylist() == rows


@pytest.mark.parametrize("format", list(ExportFormat))
def test_pages_add_up_to_the_whole(server: Server, format: str) -> None:
    result = server.run("threading", **QUICK, batch_size=7).json()
    path = f"/api/v1/tasks/results/{result['task_id']}?format={format}"
    whole = item_ids(server.client.get(path).content, format)
    assert whole == list(range(300))

    following, found = f"{path}&offset=20&limit=90", []
    while following:
        page = server.client.get(following)
        assert page.status_code == 200
        assert page.headers["accept-ranges"] == "none"
        found.append(item_ids(page.content, format))
        following = page.links.get("next", {}).get("url", "")
    assert [len(ids) for ids in found] == [90, 90, 90, 10]
    assert [item_id for ids in found for item_id in ids] == whole[20:]
    past = server.client.get(f"{path}&offset=300")
    assert past.status_code == 200
    assert item_ids(past.content, format) == []


def item_ids(content: bytes, format: str) -> list[int]:
    if format in ("arrow", "parquet"):
        is_arrow = format == "arrow"
        table = (
            pa.ipc.open_stream(content).read_all()
            if is_arrow
            else pq.read_table(io.BytesIO(content))
        )
        ids: list[int] = table.column("item_id").to_pylist()
        return ids
    if format == "csv":
        return [int(row["item_id"]) for row in csv.DictReader(io.StringIO(content.decode()))]
    return [json.loads(line)["item_id"] for line in content.splitlines()]


def test_damaged_results_are_refused_in_every_format(server: Server) -> None:
    task_id = server.run("sequential", **QUICK).json()["task_id"]
    with closing(sqlite3.connect(server.data_dir / "hotloop.sqlite3")) as connection:
        connection.execute("UPDATE results SET crc32 = crc32 + 1 WHERE task_id = ?", (task_id,))
        connection.commit()
    for format in ExportFormat:
        answer = server.client.get(f"/api/v1/tasks/results/{task_id}?format={format}")
        assert answer.status_code == 503, format
        assert f"the results of task {task_id} are damaged" in answer.json()["detail"]


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_running_task_shows_progress_and_can_be_cancelled(
    server: Server, strategy: StrategyName
) -> None:
    body = QUICK | {"items_count": 5_000, "batch_size": 20, "workers": 2, "db": "simulated"}
    request = RunRequest(server, strategy, **body, db_delay_ms=40, io_concurrency=20)
    view = server.view(request.wait_progress(100))  # more items than can be in work
    path = f"/api/v1/tasks/results/{view['task_id']}"
    assert server.client.get(path).status_code == 409
    assert view["result"] is None
    assert 0 < view["progress"] < 1
    assert view["estimated_remaining_seconds"] > 0

    cancelled = server.client.delete(f"/api/v1/tasks/{view['task_id']}")
    assert cancelled.status_code == 200
    assert cancelled.json()["status"] == "cancelled"
    answer = request.response()
    assert answer.status_code == 409
    assert answer.json()["task_id"] == view["task_id"]
    # Cancelling again changes nothing, and finished items can be read.
    again = server.client.delete(f"/api/v1/tasks/{view['task_id']}").json()
    assert again == cancelled.json()
    rows = server.client.get(path).text.splitlines()
    assert 0 < len(rows) == again["items_processed"]


def test_run_of_a_client_that_leaves_is_cancelled(server: Server) -> None:
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


def test_finished_task_is_removed_with_its_results(server: Server) -> None:
    gone, kept = (server.run("sequential", **QUICK).json()["task_id"] for _ in range(2))
    removed = server.client.delete(f"/api/v1/tasks/results/{gone}")
    assert (removed.status_code, removed.json()) == (200, {"deleted": 1})
    for path in (f"results/{gone}", f"status/{gone}"):
        assert server.client.get(f"/api/v1/tasks/{path}").status_code == 404
    assert server.client.delete(f"/api/v1/tasks/results/{gone}").status_code == 404
    assert server.client.get(f"/api/v1/tasks/results/{kept}").status_code == 200


def test_running_task_must_be_cancelled_before_it_is_removed(server: Server) -> None:
    body = {"items_count": 5_000, "strategy": "sequential", "db_delay_ms": 100}
    task_id = server.client.post("/api/v1/tasks/background", json=body).json()["task_id"]
    refused = server.client.delete(f"/api/v1/tasks/results/{task_id}")
    assert refused.status_code == 409
    assert "cancel it first" in refused.json()["detail"]
    server.client.delete(f"/api/v1/tasks/{task_id}")
    assert server.client.delete(f"/api/v1/tasks/results/{task_id}").json() == {"deleted": 1}


def test_clearing_removes_finished_tasks_and_their_files(server: Server) -> None:
    task_id = server.run("sequential", **QUICK).json()["task_id"]
    assert server.client.delete("/api/v1/tasks/results").json()["deleted"] >= 1
    assert server.client.get("/api/v1/tasks/results").json()["total"] == 0
    for path in (f"results/{task_id}", f"status/{task_id}"):
        assert server.client.get(f"/api/v1/tasks/{path}").status_code == 404
    assert server.client.delete(f"/api/v1/tasks/{task_id}").status_code == 404
