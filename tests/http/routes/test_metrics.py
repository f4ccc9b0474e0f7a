"""/metrics, and the sources at /health/ready."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hotloop.app.schemas.service import Readiness, SourceHealth
from tests.fixtures.client import Client
from tests.fixtures.fake_services import FakeServices


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


def test_source_that_is_down_is_told_and_the_service_is_ready(
    client: Client, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = SourceHealth(
        breaker="open", openings=2, changed_at=datetime(2026, 1, 1, tzinfo=UTC), detail="it is off"
    )

    async def ready() -> Readiness:
        return Readiness(ready=True, checks={}, sources={"pinot": down})

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
