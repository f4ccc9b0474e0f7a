"""Streams of events whose client leaves or whose service stops, of `routes/events.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.types import Message

from hotloop.app.factory import begin_stop
from hotloop.app.http.routes.events import HEARTBEAT_SECONDS, EventStreamResponse
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.tasks import TaskEvent
from hotloop.app.serving.server import Server
from tests.fixtures.client import open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices, task_view
from tests.fixtures.waiting import until
from tests.fixtures.wire import BODY, GONE, SCOPE, Wire

EVENTS = f"/api/v1/tasks/events/{TASK_ID}"
SCOPE_OF_EVENTS = {**SCOPE, "path": EVENTS}
ABANDONED = 1_000

END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
RUNNING = TaskEvent("1", "state", task_view(status=TaskStatus.RUNNING))


@pytest.fixture
def services() -> FakeServices:
    """A task that runs for ever and says so once."""
    return FakeServices(status=TaskStatus.RUNNING, happening=(RUNNING,), stays_silent=True)


@pytest.fixture
def runner(app: FastAPI) -> Iterator[asyncio.Runner]:
    with open_client(app) as client:
        yield client.runner


def open_stream(app: FastAPI, wire: Wire, scope: dict[str, object]) -> asyncio.Future[None]:
    wire.messages.put_nowait(BODY)
    call: Coroutine[None, None, None] = app(scope, wire.receive, wire.send)
    return asyncio.ensure_future(call)


def nothing_is_left(services: FakeServices, streams: int) -> bool:
    return (
        services.watching == 0
        and services.ended_streams == streams
        and asyncio.all_tasks() == {asyncio.current_task()}
    )


def test_status_is_sent_before_anything_happens(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    services.happening = ()

    async def scenario() -> None:
        wire = Wire()
        answering = open_stream(app, wire, SCOPE_OF_EVENTS)
        await until(lambda: wire.sent, "the status is sent")
        assert wire.sent[0]["status"] == 200
        wire.messages.put_nowait(GONE)
        await answering
        assert nothing_is_left(services, 1)

    runner.run(scenario())


def test_thousand_clients_that_leave_leave_nothing(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    async def scenario() -> None:
        wires = [Wire() for _ in range(ABANDONED)]
        answering = [open_stream(app, wire, SCOPE_OF_EVENTS) for wire in wires]
        await until(lambda: all(wire.pieces for wire in wires), "all have had an event")
        assert services.watching == ABANDONED
        for wire in wires:
            wire.messages.put_nowait(GONE)
        await asyncio.gather(*answering)
        assert nothing_is_left(services, ABANDONED)
        assert all(wire.sent[-1] != END for wire in wires)

    runner.run(scenario())


def test_thousand_clients_that_leave_at_once_leave_nothing(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    async def scenario() -> None:
        wires = [Wire(BODY, GONE) for _ in range(ABANDONED)]
        await asyncio.gather(*(app(SCOPE_OF_EVENTS, w.receive, w.send) for w in wires))
        assert services.watching == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    runner.run(scenario())


def test_client_that_does_not_read_and_then_leaves_leaves_nothing(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    async def scenario() -> None:
        wire, blocked = Wire(BODY), asyncio.Event()

        async def send(message: Message) -> None:
            if message.get("body"):
                wire.messages.put_nowait(GONE)
                await blocked.wait()

        await app(SCOPE_OF_EVENTS, wire.receive, send)
        assert nothing_is_left(services, 1)

    runner.run(scenario())


def test_server_of_a_later_protocol_learns_of_the_leaving_too(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    """Since ASGI 2.4 the framework itself would notice a leaving client only at the next event."""

    async def scenario() -> None:
        wire = Wire()
        answering = open_stream(app, wire, SCOPE_OF_EVENTS | {"asgi": {"spec_version": "2.4"}})
        await until(lambda: wire.pieces, "an event is sent")
        wire.messages.put_nowait(GONE)
        await answering
        assert nothing_is_left(services, 1)

    runner.run(scenario())


def test_cancelled_answer_leaves_nothing(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    async def scenario() -> None:
        wire = Wire()
        answering = open_stream(app, wire, SCOPE_OF_EVENTS)
        await until(lambda: wire.pieces, "an event is sent")
        answering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answering
        assert nothing_is_left(services, 1)

    runner.run(scenario())


def test_client_that_leaves_an_unread_body_leaves_nothing(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    services.status = TaskStatus.COMPLETED
    services.happening = ()

    async def scenario() -> None:
        wire = Wire()
        answering = open_stream(app, wire, SCOPE_OF_EVENTS | {"query_string": b"last_event_id=1"})
        await until(lambda: services.watching, "the service is asked")
        wire.messages.put_nowait(GONE)
        await answering
        assert wire.sent == []
        assert nothing_is_left(services, 1)

    runner.run(scenario())


# Silence.


async def silence(events: tuple[TaskEvent, ...] = ()) -> AsyncGenerator[TaskEvent, None]:
    for event in events:
        yield event
    await asyncio.get_running_loop().create_future()


def test_silence_is_broken_by_comments_until_the_client_leaves() -> None:
    async def scenario() -> None:
        events, wire = silence((RUNNING,)), Wire()
        response = EventStreamResponse(events, asyncio.Event(), heartbeat_seconds=0)
        answering = asyncio.ensure_future(response(SCOPE, wire.receive, wire.send))
        await until(lambda: wire.pieces.count(b": ping\n\n") > 3, "comments are sent")
        wire.messages.put_nowait(GONE)
        await answering
        # An event that takes longer than the heartbeat is not lost.
        assert len([piece for piece in wire.pieces if piece.startswith(b"event: state\n")]) == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_silence_is_broken_every_fifteen_seconds() -> None:
    assert HEARTBEAT_SECONDS == 15.0


# The end of the service.


def test_streams_end_properly_when_the_service_stops(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices
) -> None:
    async def scenario() -> None:
        wires = [Wire() for _ in range(10)]
        answering = [open_stream(app, wire, SCOPE_OF_EVENTS) for wire in wires]
        await until(lambda: all(wire.pieces for wire in wires), "all have had an event")
        begin_stop(app)
        await asyncio.gather(*answering)
        assert nothing_is_left(services, 10)
        assert all(wire.sent[-1] == END for wire in wires)

    runner.run(scenario())


@pytest.mark.parametrize("query", [b"", b"last_event_id=1"])
def test_stream_that_comes_too_late_ends_at_once(
    runner: asyncio.Runner, app: FastAPI, services: FakeServices, query: bytes
) -> None:
    """A status other than 204 makes the client come again: the task may go on elsewhere."""
    services.status = TaskStatus.COMPLETED if query else TaskStatus.RUNNING
    services.happening = ()

    async def scenario() -> None:
        begin_stop(app)
        wire = Wire()
        await open_stream(app, wire, SCOPE_OF_EVENTS | {"query_string": query})
        assert wire.sent[0]["status"] == 200
        assert wire.sent[1:] == [END]

    runner.run(scenario())


def test_lifespan_ends_streams_for_any_server(app: FastAPI, services: FakeServices) -> None:
    async def scenario() -> None:
        wire = Wire()
        async with app.router.lifespan_context(app):
            answering = open_stream(app, wire, SCOPE_OF_EVENTS)
            await until(lambda: wire.pieces, "an event is sent")
        await answering
        assert nothing_is_left(services, 1)

    asyncio.run(scenario())


def test_real_server_stops_although_streams_are_open(app: FastAPI, services: FakeServices) -> None:
    """The server waits for answers without a bound, so only their end lets it go on."""
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=None)

    async def scenario() -> None:
        server = Server(app, config)
        serving = asyncio.ensure_future(server.serve())
        await until(lambda: server.started, "the server listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        async with (
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
            client.stream("GET", EVENTS) as response,
        ):
            assert response.status_code == 200
            lines = response.aiter_lines()
            assert await anext(lines) == "event: state"
            server.should_exit = True  # what the handler of SIGTERM does
            # The answer is complete, otherwise this raises.
            rest = [line async for line in lines]
            assert rest[-2:] == ["id: 1", ""]
        await serving
        assert services.watching == 0

    asyncio.run(scenario())


def test_real_server_closes_the_events_of_a_client_that_leaves(
    app: FastAPI, services: FakeServices
) -> None:
    config = uvicorn.Config(app, port=0, log_config=None)

    async def scenario() -> None:
        server = Server(app, config)
        serving = asyncio.ensure_future(server.serve())
        await until(lambda: server.started, "the server listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            async with client.stream("GET", EVENTS) as response:
                await anext(response.aiter_lines())
                assert services.watching == 1
            await until(lambda: services.ended_streams == 1, "the stream is closed")
        server.should_exit = True
        await serving

    asyncio.run(scenario())
