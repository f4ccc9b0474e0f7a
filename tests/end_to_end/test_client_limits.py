"""How much background work a client may have: one more is refused, and those of others are not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.server import Server, running_server

pytestmark = pytest.mark.long

ALICE, BOB = make_key("alice"), make_key("bob")
TASKS = "/api/v1/tasks"
LITTLE = {"items_count": 20, "batch_size": 10, "db": "none", "cache": "none", "kernel": "python"}
LONG = {"items_count": 1_000, "strategy": "sequential", "db_delay_ms": 1_000, "cache": "none"}
"""Estimated at 1,000 s and a little."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that accepts and executes nothing: what is accepted waits."""
    keys = keys_setting([ALICE, BOB])
    limits = {"client_tasks": 2, "client_seconds": 1_500, "client_stored_bytes": 1 << 20}
    with running_server(
        tmp_path, api_keys=keys, run_hosts=1, background_runs=0, **limits
    ) as server:
        yield server


def asked(server: Server, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return server.client.post(f"{TASKS}/background", json=body, headers=headers)


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    problem = answer.json()
    assert problem["type"] == "urn:hotloop:problem:client-limit"
    return str(problem["detail"])


def test_tasks_of_a_client_are_counted_and_those_of_others_are_not(server: Server) -> None:
    headers = ALICE.headers | {"Idempotency-Key": "first"}
    first = asked(server, headers, LITTLE)
    assert first.status_code == asked(server, ALICE.headers, LITTLE).status_code == 202
    assert "2 of your background tasks wait or run, and 2 may" in refused(
        asked(server, ALICE.headers, LITTLE)
    )
    upload = server.client.post(
        f"{TASKS}/upload",
        content="item_id,value,offset\n1,0.5,2\n",
        headers=ALICE.headers | {"Content-Type": "text/csv", "Prefer": "respond-async"},
    )
    assert "2 may" in refused(upload)
    # What was accepted before is told again, and not refused.
    assert asked(server, headers, LITTLE).json()["task_id"] == first.json()["task_id"]
    assert asked(server, BOB.headers, LITTLE).status_code == 202
    path = f"{TASKS}/{first.json()['task_id']}"
    assert server.client.delete(path, headers=ALICE.headers).status_code == 200
    assert asked(server, ALICE.headers, LITTLE).status_code == 202
    assert "2 may" in refused(server.client.post(f"{path}/resume", headers=ALICE.headers))
    listed = server.client.get(f"{TASKS}/results", headers=ALICE.headers).json()
    assert listed["total"] == 3


def test_seconds_of_a_client_are_added_up(server: Server) -> None:
    accepted = asked(server, ALICE.headers, LONG)
    assert accepted.status_code == 202
    assert 1_000 <= accepted.json()["estimated_seconds"] < 1_100
    text = refused(asked(server, ALICE.headers, LONG))
    assert "1,500 s may be" in text
    assert asked(server, ALICE.headers, LITTLE).status_code == 202
    assert asked(server, BOB.headers, LONG).status_code == 202


def test_bytes_of_a_client_are_bounded_and_those_of_others_are_not(server: Server) -> None:
    def upload(headers: dict[str, str], rows: int) -> httpx.Response:
        return server.client.post(
            f"{TASKS}/upload",
            content="item_id,value,offset\n" + "1,0.5,2\n" * rows,
            headers=headers | {"Content-Type": "text/csv", "Prefer": "respond-async"},
        )

    def refused(answer: httpx.Response) -> str:
        assert answer.status_code == 507, answer.text
        problem = answer.json()
        assert problem["type"] == "urn:hotloop:problem:client-storage"
        assert problem["limit_bytes"] == 1 << 20
        return str(problem["detail"])

    first = upload(ALICE.headers, 100_000)
    assert first.status_code == 202
    assert "Delete finished tasks" in refused(upload(ALICE.headers, 100_000))
    large = {"items_count": 100_000, "db": "none", "cache": "none"}
    assert "this one needs 2,500,000" in refused(asked(server, ALICE.headers, large))
    assert "this one needs 2,500,000" in refused(
        server.client.post(f"{TASKS}/sequential", json=large, headers=ALICE.headers)
    )
    assert upload(BOB.headers, 100_000).status_code == 202
    # What was refused has left nothing, and what is deleted makes room.
    assert len(list((server.data_dir / "uploads").iterdir())) == 2
    task_id = first.json()["task_id"]
    assert server.client.delete(f"{TASKS}/{task_id}", headers=ALICE.headers).status_code == 200
    path = f"{TASKS}/results/{task_id}"
    assert server.client.delete(path, headers=ALICE.headers).status_code == 200
    assert upload(ALICE.headers, 100_000).status_code == 202
