"""POST /api/v1/tasks/{strategy}: what is taken, what is refused, and how."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import TooBusyError
from hotloop.app.factory import create_app
from hotloop.app.names import StrategyName
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.settings.settings import Settings
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices

RUN = "/api/v1/tasks/hybrid"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_each_strategy_runs(client: Client, services: FakeServices, strategy: StrategyName) -> None:
    response = client.post(f"/api/v1/tasks/{strategy}", json={"items_count": 3})
    assert response.status_code == 200
    assert response.json()["task_id"] == TASK_ID
    assert response.json()["results"][0] == {"item_id": 0, "loop": 1.5, "nested": 7}
    assert services.calls == [("run", strategy, RunRequest(items_count=3))]


def test_unknown_strategy_is_404_and_lists_them(client: Client, services: FakeServices) -> None:
    response = client.post("/api/v1/tasks/quantum", json={})
    assert response.status_code == 404
    assert "choose from sequential, threading, multiprocessing" in response.json()["detail"]
    assert services.calls == []


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"", "body", "is empty; send {} for the defaults"),
        (b'{"workers": 4', "body", "EOF while parsing an object at line 1 column 13"),
        (b"{} {}", "body", "trailing characters at line 1 column 4"),
        (b"\xff\xfe", "body", "is not valid JSON"),
        (b"[" * 2_000, "body", "recursion limit exceeded at line 1"),
        (b'{"workers": ' + b"9" * 4_000 + b"}", "workers", "(got an integer of 13,288 bits)"),
        (b'{"a": "\\ud800"}', "body", "is not valid JSON"),
        (b'{"workers": NaN}', "workers", "must be an integer (got NaN)"),
        (b'{"db_delay_ms": Infinity}', "db_delay_ms", "must be a finite number (got Infinity)"),
        (b'{"db_delay_ms": 1e999}', "db_delay_ms", "must be a finite number (got Infinity)"),
        (b"NaN", "body", "must be an object (got NaN)"),
        (b"null", "body", "must be an object (got null)"),
        (b'{"workers": 0}', "workers", "must be at least 1 (got 0)"),
        (b'{"db": 1}', "db", "must be a string (got 1)"),
        (b'{"wrokers": 1}', "wrokers", "is not a known field"),
        (b'{"items": [{"item_id": 1, "value": 1, "offset": -1}]}', "items.0.offset", "at least 0"),
        (b'{"items": [], "items_count": 1}', "items", "must have at least 1 entry"),
        (
            b'{"items": [{"item_id": 1, "value": 1, "offset": 1}], "items_count": 1}',
            "items_count",
            "cannot be given together with items",
        ),
        (
            b'{"parameters": {"outer_iterations": 100000, "inner_iterations": 100000}}',
            "parameters.outer_iterations",
            "times inner_iterations must be at most 1,000,000,000 (got 10,000,000,000)",
        ),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_wrong_body_is_422_and_names_field_and_way_out(
    client: Client, services: FakeServices, body: bytes, field: str, words: str
) -> None:
    response = client.post(RUN, content=body, headers=JSON)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    (fault,) = response.json()["errors"]
    assert fault["field"] == field
    assert words in fault["message"]
    assert services.calls == []


def test_duplicate_keys_pass_and_the_last_counts(client: Client, services: FakeServices) -> None:
    client.post(RUN, content=b'{"workers": 1, "workers": 2}', headers=JSON)
    assert services.calls[0][2].workers == 2


def test_query_of_a_run_is_refused_and_not_ignored(client: Client, services: FakeServices) -> None:
    response = client.post(f"{RUN}?items_count=5", json={})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "items_count"
    assert services.calls == []


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-16", ""],
)
def test_other_content_type_is_415_and_names_the_right_one(
    client: Client, content_type: str
) -> None:
    response = client.post(RUN, content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert "-H 'Content-Type: application/json'" in response.json()["detail"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=UTF-8", "application/json;"]
)
def test_json_content_type_is_accepted(client: Client, content_type: str) -> None:
    response = client.post(RUN, content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(("coding", "status"), [("Identity", 200), ("", 415), ("gzip", 415)])
def test_only_unencoded_bodies_are_accepted(client: Client, coding: str, status: int) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}
    assert client.post(RUN, content=b"{}", headers=headers).status_code == status


def test_error_of_the_service_is_a_problem(client: Client, services: FakeServices) -> None:
    services.error = TooBusyError("16 runs wait", 7)
    response = client.post(RUN, json={})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "7"


def test_million_unknown_fields_are_counted_and_not_listed(services: FakeServices) -> None:
    body = b"{" + b",".join(b'"%x":1' % number for number in range(100_000)) + b"}"
    with open_client(create_app(Settings(), services.open)) as client:
        response = client.post(RUN, content=body, headers=JSON)
    assert response.status_code == 422
    assert response.json()["detail"] == "body: has 100,000 faults"


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b" " * 1_024


def test_body_at_the_bound_is_accepted(client: Client) -> None:
    response = client.post(RUN, content=b"{}" + b" " * 4_094, headers=JSON)
    assert response.status_code == 200


@pytest.mark.parametrize("path", [RUN, "/nowhere", "/api/v1/tasks/results", "/", "/docs"])
def test_body_that_announces_too_much_is_413_on_every_path(client: Client, path: str) -> None:
    response = client.post(path, content=b" " * 4_097, headers=JSON)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["connection"] == "close"
    assert "4,096 bytes" in response.json()["detail"]
    assert "HOTLOOP_MAX_BODY_BYTES" in response.json()["detail"]


def test_body_that_announces_an_absurd_length_is_413(client: Client) -> None:
    response = client.post(RUN, content=pieces(0), headers=JSON | {"Content-Length": "9" * 5_000})
    assert response.status_code == 413


def test_body_without_length_is_413_once_it_is_too_long(client: Client) -> None:
    response = client.post(RUN, content=pieces(5), headers=JSON)
    assert response.status_code == 413
    assert response.headers["content-type"] == "application/problem+json"


FIELDS = st.sampled_from([*RunRequest.model_fields, "x"])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["pinot", "numba", 10**400, "\ud800", 2**63, -0.0]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.dictionaries(FIELDS, VALUES, max_size=4) | VALUES)
@example(body={"items": [{"item_id": 1, "value": float("nan"), "offset": 0}]})
def test_any_json_is_run_or_refused(client: Client, body: Any) -> None:
    response = client.post(RUN, content=json.dumps(body).encode(), headers=JSON)
    assert response.status_code in (200, 413, 422)
    response.json()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(body=st.binary(max_size=200), content_type=st.text(st.characters(max_codepoint=255)))
def test_any_bytes_of_any_type_are_refused_or_run(
    client: Client, body: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type.encode("latin-1")}
    response = client.post(RUN, content=body, headers=headers)
    assert response.status_code in (200, 415, 422)
    response.json()
    assert client.post(RUN, content=body, headers=JSON).status_code in (200, 422)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1))
def test_any_strategy_name_is_run_or_refused(client: Client, name: str) -> None:
    response = client.post(f"/api/v1/tasks/{quote(name, safe='')}", json={})
    assert response.status_code < 500
