"""The service itself over HTTP: /, /health, /metrics and the documentation pages."""

from __future__ import annotations

import inspect
import mimetypes
import re
from datetime import UTC, datetime

import pytest

from hotloop.app.http import dependencies
from hotloop.app.schemas.service import Readiness, SourceHealth
from hotloop.app.version import VERSION
from tests.fixtures.client import Client
from tests.fixtures.fake_services import FakeServices

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize("accept", ["*/*", "application/json", "", "image/png"])
def test_index_is_json(client: Client, accept: str) -> None:
    response = client.get("/", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.json()["version"] == VERSION


def test_every_link_of_the_index_leads_somewhere(client: Client) -> None:
    mimetypes.init()
    for link in client.get("/").json()["links"].values():
        assert client.get(link).status_code == 200, link


def test_browser_is_sent_to_the_dashboard(client: Client) -> None:
    response = client.get("/", headers={"Accept": BROWSER})
    assert response.status_code == 307
    assert response.headers["location"] == "/dashboard"
    assert response.headers["vary"] == "Accept"


def test_health_asks_no_service(client: Client, services: FakeServices) -> None:
    response = client.get("/health")
    assert response.json() == {"status": "alive", "version": VERSION}
    assert services.calls == []


def test_ready_service_names_its_checks(client: Client) -> None:
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json()["ready"] is True
    assert set(response.json()["checks"]) == {"run_hosts", "store"}


@pytest.mark.parametrize("after", [None, "2026-01-01T00:00:00Z"])
def test_vitals_start_at_the_given_moment(
    client: Client, services: FakeServices, after: str | None
) -> None:
    response = client.get("/health/vitals", params={"after": after} if after else {})
    assert response.json()["samples"][0]["event_loop_lag_p99_ms"] == 0.5
    assert services.calls == [("read", after and datetime(2026, 1, 1, tzinfo=UTC))]


@pytest.mark.parametrize("after", ["2026-01-01T00:00:00", "yesterday"])
def test_vitals_after_no_moment_are_refused(client: Client, after: str) -> None:
    response = client.get("/health/vitals", params={"after": after})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "after"


def test_service_that_is_not_ready_names_what_is_missing(
    client: Client, services: FakeServices
) -> None:
    services.is_ready = False
    response = client.get("/health/ready")
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "store: the data folder is read-only"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_docs_need_no_internet(client: Client, page: str) -> None:
    mimetypes.init()  # Reads files once per process.
    text = client.get(page).text
    assert "//" not in re.sub(r"<!--.*?-->", "", text, flags=re.S).replace("/ui //", "")
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert len(sources) >= 2
    for source in sources:
        assert client.get(source).status_code == 200, source
    if page == "/docs":
        assert '"validatorUrl": null' in text


def test_unknown_path_is_a_problem(client: Client) -> None:
    response = client.get("/nowhere")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["instance"] == "/nowhere"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/", "GET, HEAD"),
        ("POST", "/health", "GET, HEAD"),
        ("PATCH", "/api/v1/tasks", "GET, HEAD"),
        ("PUT", "/api/v1/tasks/results", "GET, HEAD, DELETE"),
        ("OPTIONS", "/api/v1/tasks/kernels", "GET, HEAD"),
        ("GET", "/api/v1/tasks/hybrid", "POST"),
        ("GET", "/api/v1/tasks/task_00000000_1", "DELETE"),
        ("POST", "/api/v1/tasks/status/task_00000000_1", "GET, HEAD"),
    ],
)
def test_wrong_method_is_405_with_all_that_are_allowed(
    client: Client, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["allow"] == allowed
    assert response.json()["detail"] == f"{method} is not allowed here; use {allowed}"


def test_every_dependency_is_a_coroutine() -> None:
    """FastAPI runs plain functions in its shared thread pool."""
    plain = [
        name
        for name, function in vars(dependencies).items()
        if name.startswith("get_") and not inspect.iscoroutinefunction(function)
    ]
    assert plain == []


def test_metrics_are_plain_text_of_the_right_version(
    client: Client, services: FakeServices
) -> None:
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.text == "# TYPE hotloop_runs_total counter\n"
    assert services.calls == [("text",)]


def test_metrics_that_fail_are_a_problem(client: Client, services: FakeServices) -> None:
    services.error = RuntimeError("secret")
    response = client.get("/metrics")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert "secret" not in response.text


def test_service_with_a_down_source_is_ready_and_reports_it(
    client: Client, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = SourceHealth(
        breaker="open", openings=2, changed_at=datetime(2026, 1, 1, tzinfo=UTC), detail="it is off"
    )

    async def ready() -> Readiness:
        return Readiness(ready=True, checks={}, sources={"pinot": down}, clusters=[])

    monkeypatch.setattr(services, "ready", ready)
    response = client.get("/health/ready")
    assert response.status_code == 200
    assert response.json()["sources"] == {
        "pinot": {
            "breaker": "open",
            "openings": 2,
            "changed_at": "2026-01-01T00:00:00Z",
            "detail": "it is off",
        }
    }
