"""Every request is logged and counted; streams that are opened at once let others in between."""

from __future__ import annotations

import asyncio
import logging
import re
from itertools import pairwise

import pytest
from starlette.types import Message, Receive, Scope, Send

from hotloop.app.factory import create_app
from hotloop.app.http.guards.watch import OpeningTurns
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.logs.origin import current
from hotloop.app.names import Scope as SecurityScope
from hotloop.app.security.clients import KEY_HEADER, new_key
from hotloop.app.settings.settings import Settings
from tests.fixtures.access import make_key
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices


@pytest.fixture(autouse=True)
def _listening(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "hotloop.app.http.access")


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [getattr(r, FIELDS) for r in caplog.records if r.name == "hotloop.app.http.access"]


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 64])
def test_request_id_of_the_client_is_answered(client: Client, given: str) -> None:
    assert client.get("/health", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given", ["", "x" * 65, "a b", "a\tb", "é", "<script>", '"', "a,b"], ids=ascii
)
def test_request_id_that_no_log_should_hold_is_replaced(client: Client, given: str) -> None:
    headers = {"X-Request-ID": given.encode()}
    made = {client.get("/health", headers=headers).headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


def test_each_answer_is_a_line_with_the_template_of_its_path(
    client: Client, services: FakeServices, caplog: pytest.LogCaptureFixture
) -> None:
    client.get(f"/api/v1/tasks/status/{TASK_ID}?secret=planted")
    client.get("/secret/planted")
    client.post("/health")
    client.request("BREW", "/health")
    seen = [(one["method"], one["route"], one["status"]) for one in lines(caplog)]
    assert seen == [
        ("GET", "/api/v1/tasks/status/{task_id}", 200),
        ("GET", "other", 404),
        ("POST", "/health", 405),
        ("other", "/health", 405),
    ]
    assert services.requests == [(route, method, status) for method, route, status in seen]
    assert "planted" not in caplog.text + str(lines(caplog))


def test_unforeseen_error_and_refused_body_are_seen_as_well(
    client: Client, services: FakeServices, caplog: pytest.LogCaptureFixture
) -> None:
    services.error = RuntimeError("boom")
    answers = [
        client.get("/metrics"),
        client.post("/api/v1/tasks/hybrid", content=b" " * 5_000),
    ]
    assert [answer.status_code for answer in answers] == [500, 413]
    assert all(answer.headers["x-request-id"] for answer in answers)
    assert [one["status"] for one in lines(caplog)] == [500, 413]


def test_services_know_the_request(
    client: Client, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str | None] = []

    def text() -> bytes:
        known.append(current().request_id)
        return b""

    monkeypatch.setattr(services, "text", text)
    client.get("/metrics", headers={"X-Request-ID": "mine"})
    assert known == ["mine"]


def test_line_names_the_client_and_never_its_credentials(
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = make_key("alice", SecurityScope.READ)
    app = create_app(Settings(api_keys=(key.setting,)), FakeServices(owner="key:alice").open)
    status = f"/api/v1/tasks/status/{TASK_ID}"
    with open_client(app) as client:
        client.get(status, headers={KEY_HEADER: key.key})
        client.request("HEAD", status, headers={KEY_HEADER: key.key})
        client.get(status, headers={KEY_HEADER: new_key()})
        client.get("/health")
    named = [(one["status"], one["client"]) for one in lines(caplog)]
    peer = named[-1][1]
    assert named == [(200, "key:alice"), (200, "key:alice"), (401, peer), (200, peer)]
    assert peer == "127.0.0.1"
    assert key.key not in caplog.text + str(lines(caplog))


def test_line_of_an_open_service_names_the_address(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.get(f"/api/v1/tasks/status/{TASK_ID}")
    assert [one["client"] for one in lines(caplog)] == ["127.0.0.1"]


EVENTS = "/api/v1/tasks/events"


async def receive() -> Message:
    return {"type": "http.disconnect"}


async def send(message: Message) -> None:
    pass


class Begun:
    """An application that notes which requests it was given, and answers none."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.paths.append(scope["path"])
        await asyncio.get_running_loop().create_future()


def ask(app: OpeningTurns, path: str) -> asyncio.Task[None]:
    async def call() -> None:
        await app({"type": "http", "path": path}, receive, send)

    return asyncio.create_task(call())


def test_streams_begin_one_by_one_and_other_requests_at_once() -> None:
    async def scenario() -> None:
        begun = Begun()
        app = OpeningTurns(begun, EVENTS)
        tasks = [ask(app, f"/below{EVENTS}/{number}") for number in range(100)]
        await asyncio.sleep(0)
        tasks.append(ask(app, "/health"))
        counts = []
        while len(begun.paths) < len(tasks):
            await asyncio.sleep(0)
            counts.append(len(begun.paths))
        assert begun.paths.index("/health") < 5
        assert max(b - a for a, b in pairwise(counts)) <= 2
        assert [path for path in begun.paths if path != "/health"] == [
            f"/below{EVENTS}/{number}" for number in range(100)
        ]
        for task in tasks:
            task.cancel()

    asyncio.run(scenario())


def test_request_that_leaves_the_queue_blocks_no_other() -> None:
    async def scenario() -> None:
        begun = Begun()
        app = OpeningTurns(begun, EVENTS)
        tasks = [ask(app, f"{EVENTS}/{number}") for number in range(10)]
        await asyncio.sleep(0)
        for task in tasks[2:9]:
            task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert begun.paths == [f"{EVENTS}/{number}" for number in (0, 1, 9)]
        later = ask(app, f"{EVENTS}/later")
        await asyncio.sleep(0)
        assert begun.paths[-1] == f"{EVENTS}/later"
        for task in (*tasks, later):
            task.cancel()

    asyncio.run(scenario())
