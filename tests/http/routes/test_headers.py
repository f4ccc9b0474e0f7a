"""`Prefer: respond-async` (RFC 7240) makes a run a background task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotloop.app.errors import IdempotencyConflictError, RunCancelledError
from hotloop.app.factory import create_app
from hotloop.app.http.routes.headers import prefers_async
from hotloop.app.names import StrategyName
from hotloop.app.schemas.options import StrategyChoice
from hotloop.app.schemas.runs import BackgroundRequest, UploadQuery
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.settings.settings import Settings
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices
from tests.fixtures.wire import GONE, PIECE, SCOPE, Wire

UPLOAD = "/api/v1/tasks/upload"
RUN = "/api/v1/tasks/hybrid"
ASYNC = {"Prefer": "respond-async"}
ROWS = b"item_id,value,offset\n1,0.5,7\n"


@pytest.mark.parametrize(
    "lines",
    [
        ["respond-async"],
        ["Respond-Async"],
        ["RESPOND-ASYNC"],
        [" \trespond-async \t"],
        ["respond-async, wait=10"],
        ["wait=10, respond-async"],
        ["wait=10,respond-async"],
        ["return=minimal, respond-async, handling=lenient"],
        ["respond-async; wait=10"],
        ["respond-async ; a ; b=c"],
        ["respond-async;"],
        ['respond-async; a="b, c"'],
        ["respond-async="],
        ['respond-async = ""'],
        [",,respond-async,,"],
        ["wait=10", "respond-async"],
        ["", "respond-async"],
        ['foo="bar, \\"baz", respond-async'],
        ['foo="\\\\", respond-async'],
        ["foo=\\, respond-async"],
        ["respond-async, respond-async=no"],
        ['"unfinished', "respond-async"],
    ],
)
def test_respond_async_is_recognised(lines: list[str]) -> None:
    assert prefers_async(lines)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        [","],
        ["wait=10"],
        ["return=minimal; respond-async"],
        ["respond-asynchronously"],
        ["respond_async"],
        ["respond async"],
        ["no-respond-async"],
        ["respond-async=no"],
        ["respond-async=1"],
        ["respond-async=no, respond-async"],
        ["respond-async wait=10"],
        ['"respond-async"'],
        ['foo="bar, respond-async, baz"'],
        ['foo="\\", respond-async'],
        ['foo=", respond-async'],
        ["foo=respond-async"],
        ["respond\u2010async"],
        ["respond-async\xa0"],
        ["respond-async\0"],
    ],
)
def test_other_preferences_are_ignored(lines: list[str]) -> None:
    assert not prefers_async(lines)


@given(st.lists(st.text(st.characters(max_codepoint=255))))
@example(['"' * 10_001])
@example(["\\" * 10_001])
@example(["respond-async;" * 10_000])
@example(["," * 60_000])
def test_any_header_is_understood_or_left_aside(lines: list[str]) -> None:
    assert prefers_async(lines) in (True, False)


TOKENS = st.from_regex(r"\A[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}\Z")
QUOTED = st.text(st.sampled_from('ab ,;=\\"\t' + "respond-async"), max_size=20).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
BLANKS = st.text(st.sampled_from(" \t"), max_size=2)


@st.composite
def named(draw: st.DrawFn, name: st.SearchStrategy[str]) -> str:
    """`name`, or `name = value`, as RFC 7240 has preferences and their parameters."""
    value = draw(st.none() | TOKENS | QUOTED)
    if value is None:
        return draw(name)
    return f"{draw(name)}{draw(BLANKS)}={draw(BLANKS)}{value}"


@st.composite
def preferences(draw: st.DrawFn) -> str:
    parts = [draw(named(TOKENS)), *draw(st.lists(named(TOKENS), max_size=2))]
    return f"{draw(BLANKS)};{draw(BLANKS)}".join(parts)


@given(
    before=st.lists(preferences(), max_size=3),
    after=st.lists(preferences(), max_size=3),
    spelled=st.sampled_from(["respond-async", "Respond-Async", "respond-async; a=b", None]),
    blanks=BLANKS,
    one_line=st.booleans(),
)
def test_well_formed_header_asks_exactly_when_it_names_it(
    before: list[str], after: list[str], spelled: str | None, blanks: str, one_line: bool
) -> None:
    wanted = [] if spelled is None else [spelled]
    lines = [*before, *wanted, *after]
    if one_line:
        lines = [f"{blanks},{blanks}".join(lines)]
    assert prefers_async(lines) == (spelled is not None)


# Runs.


@pytest.mark.parametrize("strategy", list(StrategyName))
def test_run_becomes_a_background_task(
    client: Client, services: FakeServices, strategy: StrategyName
) -> None:
    response = client.post(f"/api/v1/tasks/{strategy}", json={"items_count": 3}, headers=ASYNC)
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/v1/tasks/status/{TASK_ID}"
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["vary"] == "Prefer"
    assert response.json()["status"] == "pending"
    request = BackgroundRequest(items_count=3, strategy=StrategyName(strategy))
    assert services.calls == [("submit", request, None)]


def test_answer_is_that_of_the_background_route(client: Client, services: FakeServices) -> None:
    body = {"items": [{"item_id": 1, "value": 0.5, "offset": 7}], "parameters": {}}
    key = {"Idempotency-Key": "k"}
    preferred = client.post(RUN, json=body, headers=ASYNC | key)
    asked = client.post("/api/v1/tasks/background", json=body | {"strategy": "hybrid"}, headers=key)
    assert preferred.json() == asked.json()
    assert preferred.headers["location"] == asked.headers["location"]
    one, other = services.calls
    assert one == other
    assert one[1].model_fields_set == other[1].model_fields_set
    assert one[1].model_dump_json() == other[1].model_dump_json()


@pytest.mark.parametrize("prefer", ["wait=10", "return=minimal", "", "respond-async=no", "\xff"])
def test_other_preferences_run_now(client: Client, services: FakeServices, prefer: str) -> None:
    response = client.post(RUN, json={}, headers={"Prefer": prefer.encode("latin-1")})
    assert response.status_code == 200
    assert response.headers["vary"] == "Prefer"
    assert "preference-applied" not in response.headers
    assert services.calls[0][0] == "run"


def test_second_line_of_the_header_counts(client: Client) -> None:
    headers = [("Content-Type", "application/json"), ("Prefer", "wait=5"), *ASYNC.items()]
    assert client.post(RUN, content=b"{}", headers=headers).status_code == 202


def test_huge_header_is_left_aside(client: Client) -> None:
    prefer = ", ".join(f"p{number}=v" for number in range(10_000))
    assert client.post(RUN, json={}, headers={"Prefer": prefer}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/tasks/hybrid", b'{"workers": 0}', 422),
        ("/api/v1/tasks/hybrid", b'{"strategy": "auto"}', 422),
        ("/api/v1/tasks/hybrid?items_count=5", b"{}", 422),
        ("/api/v1/tasks/auto", b"{}", 404),
        ("/api/v1/tasks/upload?strategy=auto", ROWS, 422),
        ("/api/v1/tasks/upload", b"{}", 415),
        ("/api/v1/tasks/hybrid", b" " * 4_097, 413),
        ("/api/v1/tasks/upload", b" " * 8_193, 413),
    ],
)
def test_wrong_request_is_refused_before_it_is_accepted(
    client: Client, services: FakeServices, path: str, body: bytes, status: int
) -> None:
    media_type = "text/csv" if body == ROWS else "application/json"
    headers = ASYNC | {"Content-Type": media_type}
    assert client.post(path, content=body, headers=headers).status_code == status
    assert services.calls == []


def test_key_of_another_request_is_422(client: Client, services: FakeServices) -> None:
    services.error = IdempotencyConflictError(TASK_ID)
    assert client.post(RUN, json={}, headers=ASYNC).status_code == 422


def test_long_run_is_202_with_a_message(client: Client, services: FakeServices) -> None:
    services.too_long = "too long"
    key = {"Idempotency-Key": "k"}
    run = client.post(RUN, json={}, headers=key)
    upload = client.post(UPLOAD, content=ROWS, headers={"Content-Type": "text/csv", **key})
    for response in (run, upload):
        assert response.status_code == 202
        assert response.headers["location"] == f"/api/v1/tasks/status/{TASK_ID}"
        assert response.headers["vary"] == "Prefer"
        assert "preference-applied" not in response.headers
        assert response.json()["message"] == "too long (key k)"


# Uploads.


def test_upload_becomes_a_background_task(client: Client, services: FakeServices) -> None:
    headers = ASYNC | {"Content-Type": "text/csv", "Idempotency-Key": "k"}
    response = client.post(f"{UPLOAD}?strategy=threading&workers=2", content=ROWS, headers=headers)
    assert response.status_code == 202
    assert response.headers["location"] == f"/api/v1/tasks/status/{TASK_ID}"
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["vary"] == "Prefer"
    query = UploadQuery(strategy=StrategyName.THREADING, workers=2)
    strategy = StrategyName.THREADING
    assert services.calls == [("submit_upload", query, strategy, "text/csv", ROWS, "k")]


def test_synchronous_upload_varies_by_prefer(client: Client) -> None:
    response = client.post(UPLOAD, content=ROWS, headers={"Content-Type": "text/csv"})
    assert response.status_code == 200
    assert response.headers["vary"] == "Prefer"


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 1_024


def test_upload_without_length_is_413_once_it_is_too_long(
    client: Client, services: FakeServices
) -> None:
    headers = ASYNC | {"Content-Type": "text/csv"}
    assert client.post(UPLOAD, content=pieces(9), headers=headers).status_code == 413
    assert services.calls == []
    assert client.post(UPLOAD, content=pieces(8), headers=headers).status_code == 202


class ReadingServices(FakeServices):
    """Tells when an upload has begun, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.reading = asyncio.Event()
        self.told: Exception | None = None

    async def submit_upload(
        self,
        query: UploadQuery,
        strategy: StrategyChoice,
        media_type: str,
        chunks: AsyncIterator[bytes],
        idempotency_key: str | None,
        client: str | None,
    ) -> TaskView:
        try:
            async for _ in chunks:
                self.reading.set()
        except RunCancelledError as error:
            self.told = error
            raise
        raise AssertionError("the client leaves before")


def test_upload_whose_client_leaves_in_the_body_is_not_accepted() -> None:
    services = ReadingServices()
    app = create_app(Settings(), services.open)
    headers = [(b"content-type", b"text/csv"), (b"prefer", b"respond-async")]
    scope = {**SCOPE, "method": "POST", "path": UPLOAD, "headers": headers}
    wire = Wire(PIECE)

    async def scenario() -> None:
        running = asyncio.ensure_future(app(scope, wire.receive, wire.send))
        await services.reading.wait()
        wire.messages.put_nowait(GONE)
        await running

    with open_client(app) as client:
        client.runner.run(scenario())
    assert isinstance(services.told, RunCancelledError)
    assert wire.sent[0]["status"] == 409  # nobody reads it
