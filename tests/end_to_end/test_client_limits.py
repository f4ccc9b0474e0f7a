"""Each client has bounds on its background work; they do not affect other clients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.server import LITTLE, Server, running_server

pytestmark = pytest.mark.long

PAIRS = {name: (make_key(f"alice-{name}"), make_key(f"bob-{name}")) for name in "abc"}
"""Two clients for each test, as they share a server."""
TASKS = "/api/v1/tasks"
LONG = {"items_count": 1_000, "strategy": "sequential", "db_delay_ms": 1_000, "cache": "none"}
"""A task with an estimate of a little over 1,000 s."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that accepts background tasks and executes none."""
    keys = keys_setting([key for pair in PAIRS.values() for key in pair])
    limits = {"client_tasks": 2, "client_seconds": 1_500, "client_stored_bytes": 1 << 20}
    folder = tmp_path_factory.mktemp("data")
    with running_server(folder, api_keys=keys, run_hosts=1, background_runs=0, **limits) as server:
        yield server


def asked(server: Server, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return server.client.post(f"{TASKS}/background", json=body, headers=headers)


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 429, answer.text
    assert int(answer.headers["Retry-After"]) > 0
    problem = answer.json()
    assert problem["type"] == "urn:hotloop:problem:client-limit"
    return str(problem["detail"])


def test_number_of_tasks_is_bounded_per_client(server: Server) -> None:
    alice, bob = PAIRS["a"]
    headers = alice.headers | {"Idempotency-Key": "first"}
    first = asked(server, headers, LITTLE)
    assert first.status_code == asked(server, alice.headers, LITTLE).status_code == 202
    assert "2 of your background tasks wait or run, and 2 may" in refused(
        asked(server, alice.headers, LITTLE)
    )
    upload = server.client.post(
        f"{TASKS}/upload",
        content="item_id,value,offset\n1,0.5,2\n",
        headers=alice.headers | {"Content-Type": "text/csv", "Prefer": "respond-async"},
    )
    assert "2 may" in refused(upload)
    # The same request again is answered as before.
    assert asked(server, headers, LITTLE).json()["task_id"] == first.json()["task_id"]
    assert asked(server, bob.headers, LITTLE).status_code == 202
    path = f"{TASKS}/{first.json()['task_id']}"
    assert server.client.delete(path, headers=alice.headers).status_code == 200
    assert asked(server, alice.headers, LITTLE).status_code == 202
    assert "2 may" in refused(server.client.post(f"{path}/resume", headers=alice.headers))
    listed = server.client.get(f"{TASKS}/results", headers=alice.headers).json()
    assert listed["total"] == 3


def test_estimated_seconds_are_bounded_per_client(server: Server) -> None:
    alice, bob = PAIRS["b"]
    accepted = asked(server, alice.headers, LONG)
    assert accepted.status_code == 202
    assert 1_000 <= accepted.json()["estimated_seconds"] < 1_100
    text = refused(asked(server, alice.headers, LONG))
    assert "the limit is 1,500 s" in text
    assert asked(server, alice.headers, LITTLE).status_code == 202
    assert asked(server, bob.headers, LONG).status_code == 202


def test_stored_bytes_are_bounded_per_client(server: Server) -> None:
    alice, bob = PAIRS["c"]

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

    first = upload(alice.headers, 100_000)
    assert first.status_code == 202
    assert "Delete finished tasks" in refused(upload(alice.headers, 100_000))
    large = {"items_count": 100_000, "db": "none", "cache": "none"}
    assert "this one needs 2,500,000" in refused(asked(server, alice.headers, large))
    assert "this one needs 2,500,000" in refused(
        server.client.post(f"{TASKS}/sequential", json=large, headers=alice.headers)
    )
    assert upload(bob.headers, 100_000).status_code == 202
    # A refused upload leaves no file, and a deletion makes room.
    assert len(list((server.data_dir / "uploads").iterdir())) == 2
    task_id = first.json()["task_id"]
    assert server.client.delete(f"{TASKS}/{task_id}", headers=alice.headers).status_code == 200
    path = f"{TASKS}/results/{task_id}"
    assert server.client.delete(path, headers=alice.headers).status_code == 200
    assert upload(alice.headers, 100_000).status_code == 202
