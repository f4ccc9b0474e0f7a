"""Comparisons over HTTP: what is asked comes from the query and the body, which may be absent."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from hotloop.app.errors import OutputsDifferError, TooBusyError
from hotloop.app.factory import create_app
from hotloop.app.names import StrategyName
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import make_key
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import SUGGESTED, TASK_ID, FakeServices

PATH = "/api/v1/tasks/compare"


def asked(services: FakeServices) -> CompareRequest:
    (call,) = services.calls
    assert call[0] == "compare"
    assert isinstance(call[1], CompareRequest)
    return call[1]


def test_query_alone_is_enough(client: Client, services: FakeServices) -> None:
    response = client.post(f"{PATH}?items_count=1000&workers=3")
    assert response.status_code == 200
    assert response.headers["Vary"] == "Prefer"
    request = asked(services)
    assert (request.items_count, request.workers) == (1_000, 3)
    assert (request.rounds, request.budget_seconds, request.exact) == (5, 120.0, False)
    assert request.strategies is None
    assert request.kernels is None


def test_answer_has_the_fields_of_the_contract(client: Client) -> None:
    answer = client.post(PATH, json={}).json()
    times = (
        "sequential_time threading_time multiprocessing_time batch_async_time "
        "concurrent_futures_time hybrid_time background_time best_approach improvement_factor "
        "cells winner tied verdict outputs_equal mismatches host curl links"
    )
    assert set(times.split()) <= set(answer)
    assert answer["task_id"] == TASK_ID


def test_body_says_what_is_compared(client: Client, services: FakeServices) -> None:
    body = {"strategies": ["hybrid"], "kernels": ["numba"], "rounds": 3, "items_count": 9}
    assert client.post(f"{PATH}?workers=2", json=body).status_code == 200
    request = asked(services)
    assert request.strategies == (StrategyName.HYBRID,)
    assert request.kernels == ("numba",)
    assert (request.rounds, request.items_count, request.workers) == (3, 9, 2)


@pytest.mark.parametrize(
    ("url", "body", "field", "words"),
    [
        ("?items_count=5", {"items_count": 5}, "items_count", "one of the two"),
        ("?workers=2", {"workers": 2}, "workers", "one of the two"),
        (
            "?items_count=5",
            {"items": [{"item_id": 1, "value": 0.5, "offset": 7}]},
            "items_count",
            "together with items",
        ),
        ("?items_count=0", {}, "items_count", "at least 1"),
        ("?rounds=3", {}, "rounds", "not a known field"),
        ("", {"strategies": []}, "strategies", "at least 1 entry"),
        ("", {"strategies": ["hybrid", "hybrid"]}, "strategies", "only once"),
        ("", {"kernels": ["fortran"]}, "kernels.0", "must be"),
        ("", {"kernel": "python", "kernels": ["numba"]}, "kernel", "one of kernels"),
        ("", {"budget_seconds": 0.5}, "budget_seconds", "at least 1"),
        ("", {"rounds": 101}, "rounds", "at most 100"),
    ],
)
def test_error_names_the_wrong_field(
    client: Client,
    services: FakeServices,
    url: str,
    body: dict[str, Any],
    field: str,
    words: str,
) -> None:
    response = client.post(PATH + url, json=body)
    assert response.status_code == 422
    (fault,) = response.json()["errors"]
    assert fault["field"] == field
    assert words in fault["message"]
    assert services.calls == []


def test_preference_makes_it_a_background_task(client: Client, services: FakeServices) -> None:
    headers = {"Prefer": "respond-async", "Idempotency-Key": "one"}
    response = client.post(PATH, json={"rounds": 2}, headers=headers)
    assert response.status_code == 202
    assert response.headers["Location"] == f"/api/v1/tasks/status/{TASK_ID}"
    ((name, request, key),) = services.calls
    assert (name, request.rounds, key) == ("submit_comparison", 2, "one")


def test_command_runs_the_fastest_where_the_client_reached_the_service(client: Client) -> None:
    words = shlex.split(client.post(PATH, json={}).json()["curl"])
    assert words[:3] == ["curl", "-s", "http://localhost/api/v1/tasks/hybrid"]
    assert json.loads(words[-1]) == SUGGESTED.body


@pytest.mark.parametrize("host", ["x'; rm -rf ~; '", "a b", "$(id)"])
def test_strange_host_does_not_get_into_the_command(services: FakeServices, host: str) -> None:
    key = make_key("alice")
    app = create_app(Settings(api_keys=(key.setting,)), services.open)  # by whatever name
    with open_client(app) as client:
        answer = client.post(PATH, json={}, headers=key.headers | {"Host": host})
    words = shlex.split(answer.json()["curl"])
    assert words[2] == "http://127.0.0.1:8001/api/v1/tasks/hybrid"


def test_other_media_types_are_refused(client: Client) -> None:
    response = client.post(PATH, content=b"rounds=3", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (OutputsDifferError("a × b", "checksums differ"), 500, "outputs-differ"),
        (TooBusyError("all are busy", 5), 503, "too-busy"),
    ],
)
def test_errors_are_problems(
    client: Client, services: FakeServices, error: Exception, status: int, kind: str
) -> None:
    services.error = error
    response = client.post(PATH, json={})
    assert response.status_code == status
    assert response.json()["type"] == f"urn:hotloop:problem:{kind}"
