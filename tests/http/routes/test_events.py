"""GET /api/v1/tasks/events/{task_id}: what is sent, and that nothing is left of it."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import StoreUnavailableError, TaskNotFoundError
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.tasks import TaskEvent, TaskProgress
from tests.fixtures.client import Client
from tests.fixtures.fake_services import TASK_ID, FakeServices, task_view

EVENTS = f"/api/v1/tasks/events/{TASK_ID}"

RUNNING = TaskEvent("1", "state", task_view(status=TaskStatus.RUNNING))
PROGRESS = TaskEvent("2", "progress", task_view(status=TaskStatus.RUNNING))
COMPLETED = TaskEvent("3", "state", task_view())


def parsed(text: str) -> list[dict[str, str]]:
    """The events of a stream, as the specification of EventSource reads them."""
    assert not text or text.endswith("\n\n")
    return [
        dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        for block in text.split("\n\n")[:-1]
    ]


def test_events_are_sent_in_order_and_the_stream_ends(
    client: Client, services: FakeServices
) -> None:
    services.happening = (RUNNING, PROGRESS, COMPLETED)
    response = client.get(EVENTS)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert [(event["id"], event["event"]) for event in parsed(response.text)] == [
        ("1", "state"),
        ("2", "progress"),
        ("3", "state"),
    ]
    assert services.calls == [("now", TASK_ID), ("events", TASK_ID, None)]
    assert (services.watching, services.ended_streams) == (0, 1)


def test_data_is_the_progress_of_the_task(client: Client, services: FakeServices) -> None:
    services.happening = (COMPLETED,)
    (event,) = parsed(client.get(EVENTS).text)
    data = json.loads(event["data"])
    assert set(data) == set(TaskProgress.model_fields)
    assert (data["task_id"], data["status"], data["progress"]) == (TASK_ID, "completed", 1.0)
    status = client.get(f"/api/v1/tasks/status/{TASK_ID}").json()
    assert data == {name: status[name] for name in data}


@pytest.mark.parametrize("status", [status for status in TaskStatus if status.has_ended])
def test_stream_ends_after_each_state_that_is_an_end(
    client: Client, services: FakeServices, status: TaskStatus
) -> None:
    ended = TaskEvent("2", "state", task_view(status=status))
    services.happening = (RUNNING, ended, PROGRESS)
    services.stays_silent = True
    assert [event["id"] for event in parsed(client.get(EVENTS).text)] == ["1", "2"]
    assert (services.watching, services.ended_streams) == (0, 1)


def test_text_of_an_event_cannot_break_the_stream(client: Client, services: FakeServices) -> None:
    hostile = "a\r\n\r\nevent: state\ndata: {}\n\n\u2028\u2029\x85\0ü🔑"
    failed = task_view(status=TaskStatus.FAILED).model_copy(update={"error_message": hostile})
    services.happening = (TaskEvent("1", "state", failed),)
    (event,) = parsed(client.get(EVENTS).text)
    assert json.loads(event["data"])["error_message"] == hostile


def test_links_of_a_task_lead_to_its_events(client: Client) -> None:
    index = client.get("/api/v1/tasks").json()
    assert index["links"]["events"].format(task_id=TASK_ID) == EVENTS


# Going on after a break.


def test_stream_goes_on_after_the_last_event(client: Client, services: FakeServices) -> None:
    services.status = TaskStatus.RUNNING
    services.happening = (COMPLETED,)
    client.get(EVENTS, headers={"Last-Event-ID": "2"})
    client.get(f"{EVENTS}?last_event_id=2")
    client.get(f"{EVENTS}?last_event_id=1", headers={"Last-Event-ID": "2"})
    asked = [call for call in services.calls if call[0] == "events"]
    assert asked == [("events", TASK_ID, "2")] * 3


def test_empty_ids_are_none(client: Client, services: FakeServices) -> None:
    services.happening = (COMPLETED,)
    response = client.get(f"{EVENTS}?last_event_id=", headers={"Last-Event-ID": ""})
    assert response.status_code == 200
    assert services.calls[-1] == ("events", TASK_ID, None)


def test_client_with_the_last_event_gets_204(client: Client, services: FakeServices) -> None:
    """A browser connects again after each end, unless the answer is 204."""
    response = client.get(EVENTS, headers={"Last-Event-ID": "3"})
    assert response.status_code == 204
    assert response.content == b""
    assert "content-type" not in response.headers
    assert response.headers["cache-control"] == "no-store"
    assert (services.watching, services.ended_streams) == (0, 1)


def test_client_that_missed_the_end_gets_it(client: Client, services: FakeServices) -> None:
    services.happening = (COMPLETED,)
    response = client.get(EVENTS, headers={"Last-Event-ID": "2"})
    assert response.status_code == 200
    assert [event["id"] for event in parsed(response.text)] == ["3"]


def test_new_client_of_an_ended_task_without_events_gets_an_empty_stream(client: Client) -> None:
    response = client.get(EVENTS)
    assert (response.status_code, response.text) == (200, "")


@pytest.mark.parametrize(
    "value", [b"a b", b"\xff", "é".encode(), b"1\r\n2", b"\0", b"7" * 256, b"7" * 60_000]
)
def test_last_event_id_that_is_not_visible_ascii_is_422(
    client: Client, services: FakeServices, value: bytes
) -> None:
    response = client.get(EVENTS, headers={"Last-Event-ID": value})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "Last-Event-ID"
    assert len(response.content) < 1_000
    assert services.calls == []


@pytest.mark.parametrize("query", ["last_event_id=a%20b", "last_event_id=%0a", "last_event=1"])
def test_wrong_query_is_422(client: Client, services: FakeServices, query: str) -> None:
    assert client.get(f"{EVENTS}?{query}").status_code == 422
    assert services.watching == services.ended_streams == 0


def test_too_long_id_in_the_query_is_422(client: Client) -> None:
    assert client.get(f"{EVENTS}?last_event_id={'7' * 256}").status_code == 422


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=st.binary(max_size=300))
def test_any_last_event_id_is_accepted_or_refused(
    client: Client, services: FakeServices, value: bytes
) -> None:
    services.happening = (COMPLETED,)
    response = client.get(EVENTS, headers={"Last-Event-ID": value})
    assert response.status_code in (200, 422)
    assert services.watching == 0


# Errors.


def test_unknown_task_is_404_before_the_stream(client: Client, services: FakeServices) -> None:
    response = client.get("/api/v1/tasks/events/task_00000000_1")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert services.calls == [("now", "task_00000000_1")]


@pytest.mark.parametrize("name", ["x", "task_1_1", "%00", "%ff", "a" * 999])
def test_malformed_id_is_404_without_a_search(
    client: Client, services: FakeServices, name: str
) -> None:
    assert client.get(f"/api/v1/tasks/events/{name}").status_code == 404
    assert services.calls == []


def test_store_that_cannot_be_reached_is_503_before_the_stream(
    client: Client, services: FakeServices
) -> None:
    services.error = StoreUnavailableError("no connection to the store", 3)
    response = client.get(EVENTS)
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (TaskNotFoundError(TASK_ID), 404),
        (StoreUnavailableError("gone", 3), 503),
        (ValueError("/etc/secret"), 500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_before_the_answer_has_begun_is_an_answer(
    client: Client, services: FakeServices, failure: Exception, status: int
) -> None:
    services.failure = failure
    response = client.get(EVENTS, headers={"Last-Event-ID": "3"})
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert (services.watching, services.ended_streams) == (0, 1)


@pytest.mark.parametrize(
    ("failure", "level"),
    [
        (TaskNotFoundError(TASK_ID), logging.WARNING),
        (StoreUnavailableError("gone", 3), logging.WARNING),
        (ValueError("/etc/secret"), logging.ERROR),
    ],
    ids=lambda value: type(value).__name__,
)
def test_error_in_the_middle_ends_the_stream_and_is_logged(
    client: Client,
    services: FakeServices,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    level: int,
) -> None:
    services.happening = (RUNNING, PROGRESS)
    services.failure = failure
    response = client.get(EVENTS)
    assert response.status_code == 200
    assert [event["id"] for event in parsed(response.text)] == ["1", "2"]
    records = [
        record for record in caplog.records if record.name == "hotloop.app.http.routes.events"
    ]
    assert [record.levelno for record in records] == [level]
    assert (services.watching, services.ended_streams) == (0, 1)


@pytest.mark.parametrize("method", ["OPTIONS", "POST", "DELETE"])
def test_other_methods_are_405(client: Client, method: str) -> None:
    response = client.request(method, EVENTS)
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"
    assert response.headers["content-type"] == "application/problem+json"
