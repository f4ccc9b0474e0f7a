"""The index of tasks, kernels, status, cancelling."""

from __future__ import annotations

import pytest

from hotloop.app.errors import StoreError
from hotloop.app.names import StrategyName
from tests.fixtures.client import Client
from tests.fixtures.fake_services import TASK_ID, FakeServices


def test_index_lists_the_strategies_in_order(client: Client) -> None:
    index = client.get("/api/v1/tasks").json()
    assert [entry["name"] for entry in index["strategies"]] == list(StrategyName)
    for entry in index["strategies"]:
        assert entry["description"]
        assert client.request(entry["method"], entry["href"], json={}).status_code == 200


def test_kernels_are_listed(client: Client) -> None:
    (kernel,) = client.get("/api/v1/tasks/kernels").json()["kernels"]
    assert (kernel["workload"], kernel["kernel"], kernel["available"]) == ("loops", "python", True)


def test_status_has_progress_and_result(client: Client) -> None:
    task = client.get(f"/api/v1/tasks/status/{TASK_ID}").json()
    assert (task["progress"], task["result"]["task_id"]) == (1.0, TASK_ID)


def test_unknown_task_is_404(client: Client) -> None:
    response = client.get("/api/v1/tasks/status/task_00000000_1")
    assert response.status_code == 404
    assert response.json()["type"] == "urn:hotloop:problem:task-not-found"


@pytest.mark.parametrize("name", ["x", "task_1_1", "%00", "%ff", "task_4f9d02aa_%D9%A1", "a" * 999])
@pytest.mark.parametrize("path", ["status/{}", "results/{}", "{}"])
def test_what_cannot_be_an_id_is_404_without_a_search(
    client: Client, services: FakeServices, path: str, name: str
) -> None:
    method = "DELETE" if path == "{}" else "GET"
    response = client.request(method, f"/api/v1/tasks/{path.format(name)}")
    assert response.status_code == 404
    assert len(response.text) < 1_000
    assert services.calls == []


def test_cancel_answers_the_task(client: Client, services: FakeServices) -> None:
    response = client.delete(f"/api/v1/tasks/{TASK_ID}")
    assert response.json()["task_id"] == TASK_ID
    assert services.calls == [("cancel", TASK_ID)]


def test_store_that_fails_is_503(client: Client, services: FakeServices) -> None:
    services.error = StoreError("the disk is full")
    response = client.delete(f"/api/v1/tasks/{TASK_ID}")
    assert (response.status_code, response.json()["detail"]) == (503, "the disk is full")
