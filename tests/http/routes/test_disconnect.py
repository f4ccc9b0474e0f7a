"""A client that goes away ends its work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.types import Message

from hotloop.app.errors import RunCancelledError
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.names import StrategyName
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.schemas.tasks import AcceptedRun
from tests.fixtures.client import open_client
from tests.fixtures.fake_services import TASK_ID, FakeServices
from tests.fixtures.wire import BODY, GONE, PIECE, SCOPE, Wire


class Work:
    """Runs until told; remembers how it ended."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.finish = asyncio.Event()
        self.ended = ""

    async def __call__(self) -> str:
        self.started.set()
        try:
            await self.finish.wait()
        except asyncio.CancelledError:
            # Stopping a run takes a while; nobody goes on before it has stopped.
            await asyncio.sleep(0.01)
            self.ended = "cancelled"
            raise
        self.ended = "finished"
        return "result"


def test_result_is_returned_and_leaves_no_task() -> None:
    async def scenario() -> None:
        work = Work()
        work.finish.set()
        request = Request(SCOPE, Wire().receive)
        assert await run_while_connected(request, work()) == "result"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_error_is_raised_and_leaves_no_task() -> None:
    async def fail() -> None:
        raise LookupError("x")

    async def scenario() -> None:
        with pytest.raises(LookupError):
            await run_while_connected(Request(SCOPE, Wire().receive), fail())
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_client_gone_cancels_and_awaits_the_work() -> None:
    async def scenario() -> None:
        work, wire = Work(), Wire()
        running = asyncio.ensure_future(run_while_connected(Request(SCOPE, wire.receive), work()))
        await work.started.wait()
        wire.messages.put_nowait(GONE)
        with pytest.raises(ClientDisconnect):
            await running
        assert work.ended == "cancelled"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_cancelled_request_cancels_and_awaits_the_work() -> None:
    async def scenario() -> None:
        work = Work()
        running = asyncio.ensure_future(run_while_connected(Request(SCOPE, Wire().receive), work()))
        await work.started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert work.ended == "cancelled"
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(scenario())


def test_disconnect_is_not_awaited_while_the_body_is_read() -> None:
    async def scenario() -> None:
        work, wire, body_read = Work(), Wire(GONE), asyncio.Event()
        running = asyncio.ensure_future(
            run_while_connected(Request(SCOPE, wire.receive), work(), body_read=body_read)
        )
        await work.started.wait()
        await asyncio.sleep(0.01)
        assert wire.messages.qsize() == 1
        body_read.set()
        with pytest.raises(ClientDisconnect):
            await running
        assert work.ended == "cancelled"

    asyncio.run(scenario())


class SlowServices(FakeServices):
    """Runs that last until they are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    async def run(
        self, strategy: StrategyName, request: RunRequest, key: str | None, client: str | None
    ) -> RunResult | AcceptedRun:
        await self.work()
        raise AssertionError("nobody finishes it")

    async def run_upload(
        self,
        query: UploadQuery,
        media_type: str,
        chunks: AsyncIterator[bytes],
        key: str | None,
        client: str | None,
    ) -> RunResult | AcceptedRun:
        try:
            async for _ in chunks:
                self.work.started.set()
        except RunCancelledError:
            self.work.ended = "told"
            raise
        await self.work()
        raise AssertionError("nobody finishes it")


@pytest.fixture
def services() -> SlowServices:
    return SlowServices()


def leave(
    app: FastAPI, services: SlowServices, path: str, content_type: bytes, *messages: Message
) -> list[Message]:
    """Send `messages`, wait for the work to start, leave; what the application then sent."""
    headers = [(b"content-type", content_type)]
    scope = {**SCOPE, "method": "POST", "path": path, "headers": headers}
    wire = Wire(*messages)

    async def scenario() -> None:
        running = asyncio.ensure_future(app(scope, wire.receive, wire.send))
        await services.work.started.wait()
        wire.messages.put_nowait(GONE)
        await running

    with open_client(app) as client:
        client.runner.run(scenario())
    return wire.sent


def test_run_ends_with_its_client(app: FastAPI, services: SlowServices) -> None:
    sent = leave(app, services, "/api/v1/tasks/hybrid", b"application/json", BODY)
    assert services.work.ended == "cancelled"
    assert sent[0]["status"] == 499


def test_upload_ends_with_its_client_after_the_body(app: FastAPI, services: SlowServices) -> None:
    sent = leave(app, services, "/api/v1/tasks/upload", b"text/csv", BODY)
    assert services.work.ended == "cancelled"
    assert sent[0]["status"] == 499


def test_upload_ends_with_its_client_in_the_body(app: FastAPI, services: SlowServices) -> None:
    sent = leave(app, services, "/api/v1/tasks/upload", b"text/csv", PIECE)
    assert services.work.ended == "told"
    assert sent[0]["status"] == 409  # nobody reads it


def test_export_is_closed_when_the_client_goes(app: FastAPI, services: SlowServices) -> None:
    scope = {**SCOPE, "method": "GET", "path": f"/api/v1/tasks/results/{TASK_ID}"}
    wire = Wire(BODY)
    blocked = asyncio.Event()

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            wire.messages.put_nowait(GONE)
            await blocked.wait()

    with open_client(app) as client:
        client.runner.run(app(scope, wire.receive, send))
        # Before the end of the loop, which closes whatever is left.
        assert services.closed_exports == 1
