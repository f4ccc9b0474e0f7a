"""Background tasks as clients use them: accepted, executed once, watched, cancelled, resumed."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotloop.app.names import StrategyName
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.server import FAST, QUICK, SAMPLE, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

BACKGROUND = "/api/v1/tasks/background"
WAITS: dict[str, Any] = QUICK | {"db": "simulated", "db_delay_ms": 60_000, "workers": 2}
"""A task that waits for a minute at its first items."""
SLOW: dict[str, Any] = QUICK | {"db": "simulated", "db_delay_ms": 5, "batch_size": 5}
"""A task that takes two seconds in 60 batches with `sequential`."""
ITEMS = [{"item_id": 7 * i, "value": i / 3, "offset": i} for i in range(50)]


def upload(server: Server, content: bytes, prefer: str = "respond-async") -> httpx.Response:
    query: dict[str, str | int] = {"strategy": "sequential", "cpu_iterations": 50}
    headers = {"Content-Type": "text/csv", "Prefer": prefer}
    return server.client.post(
        "/api/v1/tasks/upload", params=query, content=content, headers=headers
    )


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
def test_background_gives_what_the_synchronous_run_gives(server: Server, strategy: str) -> None:
    expected = server.run(strategy, **QUICK).json()
    result = server.ended(server.submit(strategy=strategy, **QUICK))["result"]
    assert result["checksum"] == expected["checksum"]
    assert result["results"] == expected["results"]
    assert (result["items_processed"], result["strategy"]) == (300, strategy)


def test_service_chooses_a_strategy_when_none_is_given(server: Server) -> None:
    done = server.ended(server.submit(**QUICK))
    assert done["strategy"] in set(StrategyName)
    assert done["result"]["checksum"] == server.run("sequential", **QUICK).json()["checksum"]


def test_own_items_give_what_the_synchronous_run_gives(server: Server) -> None:
    body: dict[str, Any] = {"items": ITEMS, "parameters": FAST}
    expected = server.run("threading", **body).json()["checksum"]
    done = server.ended(server.submit(strategy="threading", **body))
    assert (done["result"]["checksum"], done["total_items"]) == (expected, len(ITEMS))


@pytest.mark.parametrize("strategy", ["async-batch", "concurrent-futures"])
def test_progress_is_reported_within_a_batch(server: Server, strategy: str) -> None:
    body = QUICK | {"items_count": 60, "db": "simulated", "db_delay_ms": 50, "io_concurrency": 1}
    task_id = server.submit(strategy=strategy, batch_size=60, **body)
    seen: list[dict[str, Any]] = []

    def has_ended() -> bool:
        seen.append(server.view(task_id))
        return bool(seen[-1]["status"] == "completed")

    wait_until(has_ended, "it ends", 60, 0.02)
    within = [now for now in seen if now["status"] == "running" and now["items_processed"]]
    assert within
    counts = [now["items_processed"] for now in within]
    assert counts == sorted(counts)
    assert all(now["progress"] == now["items_processed"] / 60 <= 1 for now in within)
    assert all(now["estimated_remaining_seconds"] is not None for now in within)
    assert seen[-1]["items_processed"] == seen[-1]["result"]["items_processed"] == 60


def test_background_upload_gives_what_the_synchronous_upload_gives(server: Server) -> None:
    content = SAMPLE.read_bytes()
    expected = upload(server, content, prefer="wait=100")
    assert expected.status_code == 200
    accepted = upload(server, content)
    assert accepted.status_code == 202
    assert accepted.headers["preference-applied"] == "respond-async"
    done = server.ended(accepted.json()["task_id"])
    assert done["result"]["checksum"] == expected.json()["checksum"]
    assert done["total_items"] == expected.json()["total_items"]


def test_bad_row_fails_the_task_with_its_line(server: Server) -> None:
    head, first, *_ = SAMPLE.read_text().splitlines()
    accepted = upload(server, f"{head}\n{first}\nnonsense\n".encode())
    assert accepted.status_code == 202
    assert "line 3" in server.ended(accepted.json()["task_id"], "failed")["error_message"]


@pytest.mark.parametrize("body", [QUICK, {"items": ITEMS, "parameters": FAST}])
def test_same_idempotency_key_gives_the_same_task(server: Server, body: dict[str, Any]) -> None:
    key = f"one-{len(body)}"
    task_id = server.submit(key=key, **body)
    assert server.submit(key=key, **body) == task_id
    server.ended(task_id)
    assert server.submit(key=key, **body) == task_id
    other = server.client.post(BACKGROUND, json=WAITS, headers={"Idempotency-Key": key})
    assert other.status_code == 422
    assert task_id in other.text


def test_concurrent_requests_with_one_key_give_one_task(server: Server) -> None:
    before = server.client.get("/api/v1/tasks/results").json()["total"]
    with ThreadPoolExecutor(20) as threads:
        found = set(threads.map(lambda _: server.submit(key="many", **QUICK), range(20)))
    assert len(found) == 1
    assert server.client.get("/api/v1/tasks/results").json()["total"] == before + 1
    assert server.ended(found.pop())["attempts"] == 1


def test_respond_async_turns_a_run_into_a_background_task(server: Server) -> None:
    answer = server.client.post(
        "/api/v1/tasks/threading", json=QUICK, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    done = server.ended(answer.json()["task_id"])
    assert (done["task_type"], done["strategy"]) == ("background", "threading")


def test_pending_and_running_tasks_can_be_cancelled(server: Server) -> None:
    running = server.submit(strategy="threading", **WAITS)
    server.wait_running(running)
    pending = server.submit(strategy="threading", **QUICK)
    for task_id in (pending, running):
        answer = server.client.delete(f"/api/v1/tasks/{task_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
        assert server.client.delete(f"/api/v1/tasks/{task_id}").json() == answer.json()
    assert server.view(pending)["attempts"] == 0
    # The next task begins at once, and the cancelled tasks stay cancelled.
    server.ended(server.submit(strategy="threading", **QUICK))
    assert {server.view(task_id)["status"] for task_id in (pending, running)} == {"cancelled"}


def test_cancelled_tasks_can_be_resumed(server: Server) -> None:
    running = server.submit(strategy="sequential", **SLOW)
    server.wait_progress(running)
    pending = server.submit(strategy="hybrid", **QUICK)
    for task_id in (pending, running):
        server.client.delete(f"/api/v1/tasks/{task_id}")
        answer = server.client.post(f"/api/v1/tasks/{task_id}/resume")
        assert (answer.status_code, answer.json()["status"]) == (202, "pending")
    expected = server.run("hybrid", **QUICK).json()["checksum"]
    for task_id in (pending, running):
        assert server.ended(task_id)["result"]["checksum"] == expected
        assert server.client.post(f"/api/v1/tasks/{task_id}/resume").status_code == 409


def test_event_stream_ends_with_the_final_state(server: Server) -> None:
    task_id = server.submit(strategy="sequential", **SLOW)
    with server.client.stream("GET", f"/api/v1/tasks/events/{task_id}") as stream:
        data = [line for line in stream.iter_lines() if line.startswith("data: ")]
    states = [json.loads(line.removeprefix("data: ")) for line in data]
    assert (states[-1]["status"], states[-1]["items_processed"]) == ("completed", 300)
    assert states[-1].items() <= server.view(task_id).items()
    processed = [state["items_processed"] for state in states]
    assert processed == sorted(processed)


def test_accepted_tasks_begin_without_waiting_for_the_next_poll(tmp_path: Path) -> None:
    def wait_done(task_id: str) -> None:
        wait_until(lambda: server.view(task_id)["status"] == "completed", "it is done", 30, 0.02)

    with running_server(tmp_path, run_hosts=1, queue_poll_seconds=60) as server:
        cancelled = server.submit(strategy="sequential", **SLOW)
        server.wait_running(cancelled)
        server.client.delete(f"/api/v1/tasks/{cancelled}")
        wait_done(server.submit(strategy="threading", **QUICK))
        wait_done(server.submit(strategy="threading", items=ITEMS, parameters=FAST))
        wait_done(upload(server, SAMPLE.read_bytes()).json()["task_id"])
        server.client.post(f"/api/v1/tasks/{cancelled}/resume")
        wait_done(cancelled)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_upload_accepted_before_a_stop_is_executed_after_the_next_start(
    tmp_path: Path, how: signal.Signals
) -> None:
    with running_server(tmp_path, run_hosts=1) as server:
        blocking = server.submit(strategy="threading", **WAITS)
        server.wait_running(blocking)
        task_id = upload(server, SAMPLE.read_bytes()).json()["task_id"]
        server.stop(how)
    with running_server(tmp_path, run_hosts=1) as server:
        server.client.delete(f"/api/v1/tasks/{blocking}")
        done = server.ended(task_id)
        expected = upload(server, SAMPLE.read_bytes(), prefer="wait=100").json()
        assert done["result"]["checksum"] == expected["checksum"]
        server.client.delete("/api/v1/tasks/results")
        assert list((tmp_path / "uploads").iterdir()) == []
