"""`security.clients`, `security.gate`: clients cannot see each other's tasks on any route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hotloop.app.factory import create_app
from hotloop.app.names import Scope
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import endpoints, keys_setting, make_key
from tests.fixtures.fake_services import FakeServices
from tests.fixtures.server import LITTLE, Server, running_server
from tests.fixtures.waiting import wait_until

pytestmark = pytest.mark.long

ALICE, BOB, ALICE_READS = make_key("alice"), make_key("bob"), make_key("alice", Scope.READ)
CAROL, DAVE, ADMIN = make_key("carol"), make_key("dave"), make_key("root", Scope.ADMIN)
UNKNOWN = "task_00000000_1"
TASKS = "/api/v1/tasks"
COMPARISON = {
    "items_count": 4, "rounds": 1, "db": "none", "cache": "none", "kernels": ["cython"],
    "strategies": ["sequential"],
    "parameters": {"cpu_iterations": 10, "outer_iterations": 2, "inner_iterations": 2},
}  # fmt: skip

OF_A_TASK = [
    (method, path)
    for method, path in endpoints(create_app(Settings(), FakeServices().open))
    if "{task_id}" in path
]
assert len(OF_A_TASK) >= 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    keys = keys_setting([ALICE, BOB, CAROL, DAVE, ALICE_READS, ADMIN])
    with running_server(tmp_path_factory.mktemp("data"), api_keys=keys, run_hosts=1) as server:
        server.wait_ready()
        yield server


def accepted(server: Server, headers: dict[str, str], **body: Any) -> httpx.Response:
    return server.client.post(f"{TASKS}/background", json=LITTLE | body, headers=headers)


def ended_task(server: Server) -> str:
    """Run a task of Alice's to its end."""
    made: str = accepted(server, ALICE.headers).json()["task_id"]

    def ended() -> bool:
        task = server.client.get(f"{TASKS}/status/{made}", headers=ALICE.headers).json()
        return bool(task["status"] == "completed")

    wait_until(ended, "the task has ended")
    return made


@pytest.fixture(scope="module")
def task_id(server: Server) -> str:
    return ended_task(server)


@pytest.mark.parametrize(("method", "path"), OF_A_TASK)
def test_task_of_another_client_looks_missing(
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
@pytest.mark.parametrize("key", [ALICE, ADMIN], ids=["client", "admin"])
def test_client_and_admin_find_the_task(
    server: Server, task_id: str, method: str, path: str, key: Any
) -> None:
    removes = method == "DELETE" and path.endswith("/results/{task_id}")
    name = ended_task(server) if removes else task_id
    answer = server.client.request(method, path.replace("{task_id}", name), headers=key.headers)
    assert answer.status_code in (200, 409), answer.text


def test_other_key_of_the_same_client_finds_the_task(server: Server, task_id: str) -> None:
    answer = server.client.get(f"{TASKS}/status/{task_id}", headers=ALICE_READS.headers)
    assert answer.status_code == 200
    answer = server.client.delete(f"{TASKS}/{task_id}", headers=ALICE_READS.headers)
    assert answer.status_code == 403


def test_lists_contain_own_tasks_only(server: Server, task_id: str) -> None:
    def listed(key: Any) -> set[str]:
        page = server.client.get(f"{TASKS}/results?limit=100", headers=key.headers).json()
        assert page["total"] == len(page["items"])
        return {task["task_id"] for task in page["items"]}

    assert task_id in listed(ALICE)
    assert task_id not in listed(BOB)
    assert task_id in listed(ADMIN)


def test_runs_and_uploads_belong_to_their_client(server: Server) -> None:
    run = server.client.post(f"{TASKS}/sequential", json=LITTLE, headers=BOB.headers)
    upload = server.client.post(
        f"{TASKS}/upload?kernel=python",
        content=b"item_id,value,offset\n1,0.5,7\n",
        headers=BOB.headers | {"Content-Type": "text/csv"},
    )
    for answer in (run, upload):
        status = f"{TASKS}/status/{answer.json()['task_id']}"
        assert server.client.get(status, headers=BOB.headers).status_code == 200
        assert server.client.get(status, headers=ALICE.headers).status_code == 404


def test_comparisons_belong_to_their_client(server: Server) -> None:
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


def test_idempotency_keys_belong_to_their_client(server: Server) -> None:
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


def test_clearing_removes_own_tasks_only(server: Server) -> None:
    def cleared(key: Any) -> int:
        return int(server.client.delete(f"{TASKS}/results", headers=key.headers).json()["deleted"])

    for key in (CAROL, DAVE, DAVE):
        answer = server.client.post(f"{TASKS}/sequential", json=LITTLE, headers=key.headers)
        assert answer.status_code == 200
    assert [cleared(key) for key in (CAROL, CAROL, DAVE)] == [1, 0, 2]


def test_keys_are_not_in_the_log(server: Server, task_id: str) -> None:
    log = "".join(server.log)
    assert "running on" in log
    for key in (ALICE, BOB, ADMIN):
        assert key.key not in log
