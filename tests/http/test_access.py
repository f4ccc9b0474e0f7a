"""http.access, dependencies: every route needs a client with the right scope, and shows it its own
tasks only.

Tests of `http/access.py` and `http/dependencies.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from hotloop.app.factory import create_app, create_node_app
from hotloop.app.names import Scope
from hotloop.app.security.clients import KEY_HEADER, new_key
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import TestKey, endpoints, make_key
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices

READER, RUNNER, ADMIN = (make_key(scope.value, scope) for scope in Scope)
SETTINGS = Settings(api_keys=tuple(key.setting for key in (READER, RUNNER, ADMIN)))

OPEN = {
    ("GET", "/"),
    ("GET", "/dashboard"),
    ("GET", "/dashboard/{name}"),
    ("GET", "/docs"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/redoc"),
    ("GET", "/redoc/redoc.standalone.js"),
    ("GET", "/session"),
    ("DELETE", "/session"),
    ("POST", "/session"),
}
"""Routes that need no key, because they hold no client's data. Add one only if that is certain."""

ENDPOINTS = endpoints(create_app(SETTINGS, FakeServices().open))
GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint not in OPEN]
READING = [endpoint for endpoint in GUARDED if endpoint[0] == "GET"]
CHANGING = [endpoint for endpoint in GUARDED if endpoint[0] != "GET"]
OF_A_TASK = [endpoint for endpoint in GUARDED if "{task_id}" in endpoint[1]]


_PARAMETERS = {"{strategy}": "hybrid", "{name}": "api.js", "{workload}": "loops"}


def concrete(path: str) -> str:
    return re.sub(r"\{\w+\}", lambda m: _PARAMETERS.get(m[0], TASK_ID), path)


SHARED = FakeServices()
"""The services of `app`, made once: making an application takes longer than a test here."""


@pytest.fixture
def services() -> FakeServices:
    """The shared services as if they were new."""
    FakeServices.__init__(SHARED)
    return SHARED


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app(SETTINGS, SHARED.open)


@pytest.fixture
def client(app: FastAPI, services: FakeServices) -> Iterator[Client]:
    with open_client(app) as client:
        yield client


def test_routes_of_each_kind_exist() -> None:
    assert set(ENDPOINTS) >= OPEN
    assert {method for method, _ in CHANGING} == {"DELETE", "POST"}
    assert len(READING) >= 7
    assert len(CHANGING) >= 6
    assert len(OF_A_TASK) >= 6


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize(
    "headers",
    [{}, {KEY_HEADER: ""}, {KEY_HEADER: "password"}, {KEY_HEADER: new_key()}],
    ids=["none", "empty", "word", "foreign"],
)
def test_request_without_a_known_key_is_401(
    client: Client, services: FakeServices, method: str, path: str, headers: dict[str, str]
) -> None:
    response = client.request(method, concrete(path), headers=headers)
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:hotloop:problem:unauthorized"
    assert KEY_HEADER in response.headers["www-authenticate"]
    assert not services.calls
    assert not services.clients


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_non_ascii_key_is_401(client: Client, method: str, path: str) -> None:
    headers = {KEY_HEADER: ("hl_" + "é" * 43).encode()}
    assert client.request(method, concrete(path), headers=headers).status_code == 401


@pytest.mark.parametrize(("method", "path"), CHANGING)
def test_reader_may_change_nothing(
    client: Client, services: FakeServices, method: str, path: str
) -> None:
    response = client.request(method, concrete(path), headers=READER.headers)
    assert response.status_code == 403
    assert response.json()["type"] == "urn:hotloop:problem:missing-scope"
    assert "`run`" in response.json()["detail"]
    assert services.calls == []


@pytest.mark.parametrize(("method", "path"), READING)
def test_reader_may_read(client: Client, services: FakeServices, method: str, path: str) -> None:
    services.owner = f"key:{READER.name}"
    assert client.request(method, concrete(path), headers=READER.headers).status_code == 200


@pytest.mark.parametrize("key", [RUNNER, ADMIN], ids=["run", "admin"])
@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_permitted_keys_are_accepted(
    client: Client, services: FakeServices, method: str, path: str, key: TestKey
) -> None:
    services.owner = f"key:{key.name}"
    response = client.request(method, concrete(path), headers=key.headers, json={})
    assert response.status_code not in (401, 403, 404)
    visible = {services.owner} if key is RUNNER else {services.owner, None}
    assert set(services.clients) <= visible


@pytest.mark.parametrize("owner", ["key:somebody", None], ids=["another client", "no client"])
@pytest.mark.parametrize(("method", "path"), OF_A_TASK)
def test_task_of_another_client_looks_like_a_missing_one(
    client: Client, services: FakeServices, method: str, path: str, owner: str | None
) -> None:
    services.owner = owner
    key = READER if method == "GET" else RUNNER

    def answer(task_id: str) -> str:
        address = path.replace("{task_id}", task_id)
        response = client.request(method, address, headers=key.headers)
        assert response.status_code == 404, response.text
        assert response.json()["type"] == "urn:hotloop:problem:task-not-found"
        return response.text.replace(task_id, "TASK")

    assert answer(TASK_ID) == answer("task_00000000_1735689600")
    assert {call[0] for call in services.calls} <= {"now"}, "no service acts on the task"
    assert client.request(method, concrete(path), headers=ADMIN.headers).status_code < 300


@pytest.mark.parametrize("key", [RUNNER, ADMIN], ids=["run", "admin"])
def test_only_own_tasks_are_listed_and_cleared(
    client: Client, services: FakeServices, key: TestKey
) -> None:
    client.get("/api/v1/tasks/results", headers=key.headers)
    client.delete("/api/v1/tasks/results", headers=key.headers)
    assert services.clients == [None if key is ADMIN else f"key:{key.name}"] * 2


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_open_routes_ask_for_nothing(client: Client, method: str, path: str) -> None:
    assert client.request(method, concrete(path)).status_code in (200, 307, 422)


def test_service_without_keys_asks_for_nothing(services: FakeServices) -> None:
    with open_client(create_app(Settings(), services.open)) as client:
        for method, path in ENDPOINTS:
            response = client.request(method, concrete(path), json={})
            assert response.status_code not in (401, 403), (method, path)
    assert set(services.clients) == {None}


def test_metrics_may_be_open(services: FakeServices) -> None:
    settings = SETTINGS.model_copy(update={"metrics_open": True})
    with open_client(create_app(settings, services.open)) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/api/v1/tasks").status_code == 401


def test_node_answers_health_and_metrics_only_under_the_same_rules(services: FakeServices) -> None:
    app = create_node_app(SETTINGS, services.open)
    assert endpoints(app) == [("GET", "/health"), ("GET", "/health/ready"), ("GET", "/metrics")]
    with open_client(app) as client:
        assert client.get("/health").json()["status"] == "alive"
        assert client.get("/health/ready").status_code == 200
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={KEY_HEADER: new_key()}).status_code == 401
        answer = client.get("/metrics", headers=READER.headers)
        assert "hotloop_runs_total" in answer.text
        assert client.post("/metrics", headers=ADMIN.headers).status_code == 405
        for path in ("/", "/openapi.json", "/docs", "/api/v1/tasks"):
            answer = client.get(path, headers=ADMIN.headers)
            assert answer.status_code == 404
            assert "only /health, /health/ready and /metrics" in answer.json()["detail"]
        call = client.post("/api/v1/workloads/loops", headers=ADMIN.headers, json={"items": []})
        assert call.status_code == 404
    opened = SETTINGS.model_copy(update={"metrics_open": True})
    with open_client(create_node_app(opened, services.open)) as client:
        assert client.get("/metrics").status_code == 200
    with open_client(create_node_app(Settings(), services.open)) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 403


def test_client_over_its_rate_gets_retry_after(services: FakeServices) -> None:
    settings = SETTINGS.model_copy(update={"rate_limit": "2/hour"})
    with open_client(create_app(settings, services.open)) as client:
        answers = [client.get("/api/v1/tasks", headers=READER.headers) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert [a.headers["ratelimit"].split(";")[1] for a in answers] == ["r=1", "r=0", "r=0"]
        assert {a.headers["ratelimit-policy"] for a in answers} == {'"requests";q=2;w=3600'}
        refused = answers[-1]
        assert refused.json()["type"] == "urn:hotloop:problem:rate-limited"
        assert int(refused.headers["retry-after"]) == refused.json()["retry_after_seconds"] >= 1
        assert client.get("/api/v1/tasks", headers=RUNNER.headers).status_code == 200
        statuses = [client.get("/api/v1/tasks").status_code for _ in range(3)]
        assert statuses == [401, 401, 429]
        health = client.get("/health")
        assert health.status_code == 200
        assert "ratelimit" not in health.headers


def test_unknown_paths_are_404_for_everybody(client: Client) -> None:
    assert client.get("/nowhere").status_code == 404


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_openapi_describes_authentication(app: FastAPI, method: str, path: str) -> None:
    described = path.replace("{workload}", "loops")  # each workload has a path of its own there
    operation = app.openapi()["paths"][described][method.lower()]
    assert {"key": []} in operation["security"]
    assert {"401", "403", "429"} <= set(operation["responses"])


def test_openapi_says_which_routes_are_open(app: FastAPI) -> None:
    for path, item in app.openapi()["paths"].items():
        for method, operation in item.items():
            assert ("security" in operation) == ((method.upper(), path) not in OPEN), path
