"""POST /api/v1/tasks/background and …/{task_id}/resume, of `routes/runs.py`, `routes/tasks.py`."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import (
    IdempotencyConflictError,
    NotReadyError,
    ServiceError,
    StoreError,
    StoreUnavailableError,
    TaskConflictError,
    TaskNotFoundError,
    TooBusyError,
)
from hotloop.app.http.guards.answers import EVERYWHERE
from hotloop.app.names import StrategyName
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.runs import BackgroundRequest
from tests.fixtures.client import Client
from tests.fixtures.fake_services import TASK_ID, FakeServices

BACKGROUND = "/api/v1/tasks/background"
RESUME = f"/api/v1/tasks/{TASK_ID}/resume"
JSON = {"Content-Type": "application/json"}


def test_task_is_accepted_with_its_place_and_its_estimate(
    client: Client, services: FakeServices
) -> None:
    response = client.post(BACKGROUND, json={"items_count": 3, "strategy": "threading"})
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/v1/tasks/status/{TASK_ID}"
    assert response.headers["content-type"] == "application/json"
    assert "preference-applied" not in response.headers
    task = response.json()
    assert (task["task_id"], task["status"], task["result"]) == (TASK_ID, "pending", None)
    assert task["estimated_seconds"] == 2.5
    assert task["shards"] == {"total": 1, "completed": 0}
    request = BackgroundRequest(items_count=3, strategy=StrategyName.THREADING)
    assert services.calls == [("submit", request, None)]


def test_place_of_the_task_leads_to_it(client: Client) -> None:
    location = client.post(BACKGROUND, json={}).headers["location"]
    assert client.get(location).json()["task_id"] == TASK_ID


def test_strategy_is_chosen_for_the_client_unless_it_says(
    client: Client, services: FakeServices
) -> None:
    client.post(BACKGROUND, json={})
    assert services.calls == [("submit", BackgroundRequest(), None)]
    assert services.calls[0][1].strategy == "auto"


@pytest.mark.parametrize("strategy", ["auto", *StrategyName])
def test_each_choice_is_accepted(
    client: Client, services: FakeServices, strategy: StrategyChoice
) -> None:
    assert client.post(BACKGROUND, json={"strategy": strategy}).status_code == 202
    assert services.calls[0][1].strategy == strategy


def test_choices_are_the_strategies_and_auto() -> None:
    schema = BackgroundRequest.model_json_schema()["$defs"]["StrategyChoice"]
    assert schema["enum"] == ["auto", *StrategyName]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"", "body", "is empty; send {} for the defaults"),
        (b'{"strategy": "fast"}', "strategy", "must be 'auto', 'sequential'"),
        (b'{"strategy": null}', "strategy", "must be 'auto'"),
        (b'{"strategy": 1}', "strategy", "must be 'auto'"),
        (b'{"strategy": ["auto"]}', "strategy", "must be 'auto'"),
        (b'{"items_count": 10000001}', "items_count", "must be at most 10,000,000"),
        (b'{"task_id": "task_00000000_1"}', "task_id", "is not a known field"),
        (
            b'{"items": [{"item_id": 1, "value": 0.5, "offset": 7}], "items_count": 1}',
            "items_count",
            "cannot be given together with items",
        ),
        (b"[" * 2_000, "body", "recursion limit exceeded"),
    ],
)
def test_wrong_body_is_422(
    client: Client, services: FakeServices, body: bytes, field: str, words: str
) -> None:
    response = client.post(BACKGROUND, content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert words in response.json()["errors"][0]["message"]
    assert services.calls == []


def test_strategy_in_the_query_is_not_passed_over(client: Client, services: FakeServices) -> None:
    response = client.post(f"{BACKGROUND}?strategy=hybrid", json={})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "strategy"
    assert services.calls == []


def test_other_content_type_is_415(client: Client, services: FakeServices) -> None:
    response = client.post(BACKGROUND, content=b"{}", headers={"Content-Type": "text/csv"})
    assert response.status_code == 415
    assert services.calls == []


def test_body_over_the_bound_is_413(client: Client) -> None:
    assert client.post(BACKGROUND, content=b" " * 4_097, headers=JSON).status_code == 413


# The idempotency key.


@pytest.mark.parametrize("key", ["k", "!", "~", '"quoted"', "k" * 255, "a,b;c=d", "%00"])
def test_key_reaches_the_service_unchanged(
    client: Client, services: FakeServices, key: str
) -> None:
    response = client.post(BACKGROUND, json={}, headers={"Idempotency-Key": key})
    assert response.status_code == 202
    assert services.calls == [("submit", BackgroundRequest(), key)]


HOSTILE_KEYS = {
    "empty": b"",
    "blank": b" ",
    "blank within": b"a b",
    "tab": b"a\tb",
    "too long": b"k" * 256,
    "huge": b"k" * 60_000,
    "delete": b"\x7f",
    "null": b"k\0",
    "line feed": b"k\n",
    "CRLF and a header": b"k\r\nSet-Cookie: a=b",
    "Latin-1": b"\xfc",
    "UTF-8": "ключ-🔑".encode(),
    "fullwidth": "Ａ".encode(),
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=list(HOSTILE_KEYS))
@pytest.mark.parametrize(
    "path", [BACKGROUND, "/api/v1/tasks/hybrid", "/api/v1/tasks/upload"], ids=["b", "run", "upload"]
)
def test_key_that_is_not_visible_ascii_is_422(
    client: Client, services: FakeServices, path: str, key: bytes
) -> None:
    headers = JSON | {"Idempotency-Key": key}
    response = client.post(path, content=b"{}", headers=headers)
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["field"] == "Idempotency-Key"
    assert "must be 1 to 255 visible ASCII characters" in fault["message"]
    assert len(response.content) < 1_000
    everywhere = {name.lower() for name in EVERYWHERE} | {"cache-control", "x-request-id"}
    assert set(response.headers) == {"content-type", "content-length"} | everywhere
    assert services.calls == []


def test_key_given_twice_is_422(client: Client, services: FakeServices) -> None:
    headers = [("Content-Type", "application/json"), *[("Idempotency-Key", "k")] * 2]
    response = client.post(BACKGROUND, content=b"{}", headers=headers)
    assert response.status_code == 422
    assert "is given 2 times; give it once" in response.json()["detail"]
    assert services.calls == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=st.binary(max_size=300) | st.from_regex(rb"\A[!-~]{1,255}\Z"))
@example(key=b"k" * 255)
@example(key=b"k" * 256)
@example(key=b"k\n")
def test_any_key_is_accepted_unchanged_or_refused(
    client: Client, services: FakeServices, key: bytes
) -> None:
    services.calls.clear()
    response = client.post(BACKGROUND, content=b"{}", headers=JSON | {"Idempotency-Key": key})
    if re.fullmatch(rb"[!-~]{1,255}", key):
        assert response.status_code == 202
        assert services.calls == [("submit", BackgroundRequest(), key.decode("ascii"))]
    else:
        assert response.status_code == 422
        assert services.calls == []


def test_key_of_another_request_is_422_and_names_its_task(
    client: Client, services: FakeServices
) -> None:
    services.error = IdempotencyConflictError(TASK_ID)
    response = client.post(BACKGROUND, json={}, headers={"Idempotency-Key": "k"})
    assert response.status_code == 422
    assert response.json()["type"] == "urn:hotloop:problem:idempotency-conflict"
    assert response.json()["task_id"] == TASK_ID


@pytest.mark.parametrize("path", [BACKGROUND, RESUME])
@pytest.mark.parametrize(
    ("error", "retry_after"),
    [
        (StoreUnavailableError("no connection to the store", 3), "3"),
        (TooBusyError("10,000 tasks wait", 60), "60"),
        (NotReadyError("starting", 1), "1"),
        (StoreError("the disk is full"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_service_that_cannot_now_is_503(
    client: Client,
    services: FakeServices,
    path: str,
    error: ServiceError,
    retry_after: str | None,
) -> None:
    services.error = error
    response = client.post(path, json={})
    assert response.status_code == 503
    assert response.headers.get("retry-after") == retry_after
    assert response.json()["detail"] == str(error)


# Taking a task up again.


def test_task_can_be_resumed(client: Client, services: FakeServices) -> None:
    response = client.post(RESUME)
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/v1/tasks/status/{TASK_ID}"
    assert response.json()["status"] == "pending"
    assert services.calls == [("resume", TASK_ID)]


def test_task_that_neither_failed_nor_was_cancelled_is_409(
    client: Client, services: FakeServices
) -> None:
    services.error = TaskConflictError(TASK_ID, "it is running")
    response = client.post(RESUME)
    assert response.status_code == 409
    assert response.json()["links"]["status"] == f"/api/v1/tasks/status/{TASK_ID}"


def test_unknown_task_is_404(client: Client, services: FakeServices) -> None:
    services.error = TaskNotFoundError("task_00000000_1")
    assert client.post("/api/v1/tasks/task_00000000_1/resume").status_code == 404


@pytest.mark.parametrize("name", ["background", "results", "%00", "%ff", "task_1_1", "a" * 999])
def test_malformed_id_is_404_without_a_search(
    client: Client, services: FakeServices, name: str
) -> None:
    assert client.post(f"/api/v1/tasks/{name}/resume").status_code == 404
    assert services.calls == []


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "GET", "PUT"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (BACKGROUND, "POST"),
        (RESUME, "POST"),
    ],
)
def test_other_methods_are_405(client: Client, method: str, path: str, allowed: str) -> None:
    response = client.request(method, path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
    assert response.headers["content-type"] == "application/problem+json"
