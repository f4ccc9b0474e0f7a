"""The real service with keys: clients do not see each other's tasks, whatever the route."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hotloop.app.factory import create_app
from hotloop.app.names import Scope
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import endpoints, keys_setting, make_key
from tests.fixtures.fake_services import FakeServices
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ALICE, BOB, ALICE_READS = make_key("alice"), make_key("bob"), make_key("alice", Scope.READ)
ADMIN = make_key("root", Scope.ADMIN)
UNKNOWN = "task_00000000_1"
TASKS = "/api/v1/tasks"
COMPARISON = {
    "items_count": 4, "rounds": 1, "db": "none", "cache": "none", "kernels": ["cython"],
    "strategies": ["sequential"],
    "parameters": {"cpu_iterations": 10, "outer_iterations": 2, "inner_iterations": 2},
}  # fmt: skip
BODY = {"items_count": 20, "batch_size": 10, "db": "none", "cache": "none", "kernel": "python"}

OF_A_TASK = [
    (method, path)
    for method, path in endpoints(create_app(Settings(), FakeServices().open))
    if "{task_id}" in path
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = keys_setting([ALICE, BOB, ALICE_READS, ADMIN])
    with running_server(tmp_path_factory.mktemp("data"), api_keys=keys, run_hosts=1) as server:
        yield server


def accepted(server: Server, headers: dict[str, str], **body: Any) -> httpx.Response:
    return server.client.post(f"{TASKS}/background", json=BODY | body, headers=headers)


def ended_task(server: Server) -> str:
    """A task of Alice's that has ended."""
    made: str = accepted(server, ALICE.headers).json()["task_id"]

    def ended() -> bool:
        task = server.client.get(f"{TASKS}/status/{made}", headers=ALICE.headers).json()
        return bool(task["status"] == "completed")

    wait_until(ended, "the task has ended")
    return made


@pytest.fixture(scope="module")
def task_id(server: Server) -> str:
    return ended_task(server)


def test_there_are_routes_of_a_task() -> None:
    assert len(OF_A_TASK) >= 5


@pytest.mark.parametrize(("method", "path"), OF_A_TASK)
def test_task_of_another_is_as_one_that_is_not_there(
    server: Server, task_id: str, method: str, path: str
) -> None:
    answers = [
        server.client.request(method, path.replace("{task_id}", name), headers=BOB.headers)
        for name in (task_id, UNKNOWN)
    ]
    assert [answer.status_code for answer in answers] == [404, 404]
    foreign, unknown = (answer.text for answer in answers)
    assert foreign.replace(task_id, UNKNOWN) == unknown
    assert server.client.get(f"{TASKS}/status/{task_id}", headers=ALICE.headers).status_code == 200


@pytest.mark.parametrize(("method", "path"), OF_A_TASK)
@pytest.mark.parametrize("key", [ALICE, ADMIN], ids=["owner", "admin"])
def test_owner_and_admin_find_it(
    server: Server, task_id: str, method: str, path: str, key: Any
) -> None:
    removes = method == "DELETE" and path.endswith("/results/{task_id}")
    name = ended_task(server) if removes else task_id
    answer = server.client.request(method, path.replace("{task_id}", name), headers=key.headers)
    assert answer.status_code in (200, 409), answer.text


def test_other_key_of_the_same_client_finds_it(server: Server, task_id: str) -> None:
    answer = server.client.get(f"{TASKS}/status/{task_id}", headers=ALICE_READS.headers)
    assert answer.status_code == 200
    answer = server.client.delete(f"{TASKS}/{task_id}", headers=ALICE_READS.headers)
    assert answer.status_code == 403


def test_lists_are_of_ones_own(server: Server, task_id: str) -> None:
    def listed(key: Any) -> set[str]:
        page = server.client.get(f"{TASKS}/results?limit=100", headers=key.headers).json()
        assert page["total"] == len(page["items"])
        return {task["task_id"] for task in page["items"]}

    assert task_id in listed(ALICE)
    assert task_id not in listed(BOB)
    assert task_id in listed(ADMIN)


def test_synchronous_runs_and_uploads_are_ones_own(server: Server) -> None:
    run = server.client.post(f"{TASKS}/sequential", json=BODY, headers=BOB.headers)
    upload = server.client.post(
        f"{TASKS}/upload?kernel=python",
        content=b"item_id,value,offset\n1,0.5,7\n",
        headers=BOB.headers | {"Content-Type": "text/csv"},
    )
    for answer in (run, upload):
        status = f"{TASKS}/status/{answer.json()['task_id']}"
        assert server.client.get(status, headers=BOB.headers).status_code == 200
        assert server.client.get(status, headers=ALICE.headers).status_code == 404


def test_comparisons_are_ones_own(server: Server) -> None:
    def compare(key: Any, **headers: str) -> httpx.Response:
        headers |= key.headers
        return server.client.post(f"{TASKS}/compare", json=COMPARISON, headers=headers, timeout=60)

    later = {"Prefer": "respond-async", "Idempotency-Key": "compared"}
    now, background, again = compare(BOB), compare(BOB, **later), compare(BOB, **later)
    assert [answer.status_code for answer in (now, background, again)] == [200, 202, 202]
    assert background.json()["task_id"] == again.json()["task_id"]
    assert compare(ALICE, **later).json()["task_id"] != background.json()["task_id"]
    assert compare(ALICE_READS).status_code == 403
    for answer in (now, background):
        status = f"{TASKS}/status/{answer.json()['task_id']}"
        assert server.client.get(status, headers=BOB.headers).json()["kind"] == "comparison"
        assert server.client.get(status, headers=ALICE.headers).status_code == 404


def test_idempotency_keys_are_ones_own(server: Server) -> None:
    ids = {}
    for key in (ALICE, BOB):
        headers = key.headers | {"Idempotency-Key": "nightly"}
        first, again = accepted(server, headers), accepted(server, headers)
        assert first.json()["task_id"] == again.json()["task_id"]
        ids[key.name] = first.json()["task_id"]
    assert ids["alice"] != ids["bob"]
    conflict = accepted(server, BOB.headers | {"Idempotency-Key": "nightly"}, items_count=21)
    assert conflict.status_code == 422
    assert conflict.json()["task_id"] == ids["bob"]


def test_clearing_takes_ones_own(tmp_path: Path) -> None:
    keys = keys_setting([ALICE, BOB, ADMIN])
    with running_server(tmp_path, api_keys=keys, run_hosts=1) as server:
        for key in (ALICE, BOB, BOB):
            answer = server.client.post(f"{TASKS}/sequential", json=BODY, headers=key.headers)
            assert answer.status_code == 200

        def cleared(key: Any) -> int:
            answer = server.client.delete(f"{TASKS}/results", headers=key.headers)
            deleted: int = answer.json()["deleted"]
            return deleted

        assert cleared(ALICE) == 1
        assert cleared(ALICE) == 0
        assert cleared(ADMIN) == 2


def test_keys_are_not_in_the_log(server: Server, task_id: str) -> None:
    log = "".join(server.log)
    assert "running on" in log
    for key in (ALICE, BOB, ADMIN):
        assert key.key not in log
