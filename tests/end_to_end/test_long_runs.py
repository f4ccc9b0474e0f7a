"""Synchronous runs over HOTLOOP_SYNC_LIMIT_SECONDS become background tasks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.server import FAST, SAMPLE, Server, running_server

SECONDS: dict[str, Any] = {
    "items_count": 50,
    "db_delay_ms": 20,
    "cache": "none",
    "batch_size": 10,
    "parameters": FAST,
}
"""The estimate is a second, over the limit of the server of these tests."""
UPLOAD: dict[str, Any] = FAST | {"strategy": "sequential", "db": "simulated", "db_delay_ms": 1}


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets clients wait for at most half a second."""
    folder = tmp_path_factory.mktemp("impatient")
    with running_server(folder, sync_limit_seconds=0.5, client_seconds=3_000) as server:
        yield server


def accepted(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    assert answer.headers["location"] == body["links"]["status"]
    assert answer.headers["vary"] == "Prefer"
    assert "preference-applied" not in answer.headers
    assert body["task_type"] == "background"
    return body


def test_run_over_the_limit_becomes_a_background_task_and_says_why(impatient: Server) -> None:
    body = accepted(impatient.run("sequential", **SECONDS))
    assert body["status"] == "pending"
    assert body["estimated_seconds"] == pytest.approx(1, rel=0.3)
    message = body["message"]
    assert f"estimated at {body['estimated_seconds']:.1f} s, over the limit of" in message
    assert "HOTLOOP_SYNC_LIMIT_SECONDS" in message
    assert "fewer items" in message
    asked = SECONDS | {"strategy": "sequential"}
    plain = impatient.client.post("/api/v1/tasks/background", json=asked).json()
    assert set(body) == {*plain, "message"}
    done, other = (impatient.ended(task["task_id"]) for task in (body, plain))
    assert done["result"]["items_processed"] == 50
    assert done["result"]["checksum"] == other["result"]["checksum"]
    assert "message" not in done


def test_same_key_on_a_long_run_gives_the_same_task(impatient: Server) -> None:
    def ask(key: str, **body: Any) -> httpx.Response:
        path, headers = "/api/v1/tasks/sequential", {"Idempotency-Key": key}
        return impatient.client.post(path, json=SECONDS | body, headers=headers)

    first = accepted(ask("long"))
    assert accepted(ask("long"))["task_id"] == first["task_id"]
    assert ask("long", items_count=60).status_code == 422
    # A request under the limit conflicts as well: the key belongs to another request.
    assert ask("long", items_count=1).json()["type"].endswith("idempotency-conflict")
    impatient.ended(first["task_id"])


def test_long_upload_continues_with_the_rows_already_read(impatient: Server) -> None:
    content = SAMPLE.read_bytes()
    expected = impatient.upload(content, **UPLOAD | {"db": "none"})
    assert expected.status_code == 200, expected.text
    body = accepted(impatient.upload(content, **UPLOAD))
    assert (body["total_items"], body["status"]) == (1_000, "pending")
    assert "over the limit" in body["message"]
    files = [p.name for p in (impatient.data_dir / "uploads").glob(f"{body['task_id']}*")]
    assert files == [f"{body['task_id']}.items.npy"]
    done = impatient.ended(body["task_id"])
    assert done["result"]["checksum"] == expected.json()["checksum"]


def test_same_key_on_a_long_upload_gives_the_same_task(impatient: Server) -> None:
    def ask(content: bytes) -> httpx.Response:
        headers = {"Content-Type": "text/csv", "Idempotency-Key": "file"}
        path = "/api/v1/tasks/upload"
        return impatient.client.post(path, params=UPLOAD, content=content, headers=headers)

    first = accepted(ask(SAMPLE.read_bytes()))
    assert accepted(ask(SAMPLE.read_bytes()))["task_id"] == first["task_id"]
    assert ask(SAMPLE.read_bytes() + b"1,0.5,2\n").status_code == 422
    impatient.ended(first["task_id"])


def test_refusal_of_a_long_run_names_both_limits(impatient: Server) -> None:
    def refused(answer: httpx.Response) -> str:
        assert answer.status_code == 429, answer.text
        return str(answer.json()["detail"])

    before = impatient.client.get("/api/v1/tasks/results").json()["total"]
    huge = {"db_delay_ms": 10_000}
    answers = [
        impatient.run("sequential", **SECONDS | huge | {"items_count": 500}),
        impatient.upload(SAMPLE.read_bytes(), **UPLOAD | huge),
    ]
    for text in map(refused, answers):
        assert "over the limit" in text
        assert "the limit is 3,000 s" in text
        assert "HOTLOOP_SYNC_LIMIT_SECONDS" in text
    assert impatient.client.get("/api/v1/tasks/results").json()["total"] == before
    names = {path.name.split(".")[0] for path in (impatient.data_dir / "uploads").iterdir()}
    kept = impatient.client.get("/api/v1/tasks/results?limit=1000").json()["items"]
    assert names <= {task["task_id"] for task in kept}


@pytest.mark.long
def test_long_upload_survives_a_kill(tmp_path: Path) -> None:
    content = SAMPLE.read_bytes()
    settings: dict[str, Any] = {"sync_limit_seconds": 0.5, "run_hosts": 1}
    with running_server(tmp_path, **settings) as server:
        expected = server.upload(content, **UPLOAD | {"db": "none"}).json()["checksum"]
        task_id = accepted(server.upload(content, **UPLOAD))["task_id"]
        server.stop(signal.SIGKILL)
    with running_server(tmp_path, **settings) as server:
        server.wait_progress(task_id)
        done = server.ended(task_id)
        assert done["result"]["checksum"] == expected
        assert done["result"]["items_processed"] == 1_000
