"""An answer that goes on as long as a task has events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import Final

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import TypeAdapter
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from app.errors import ServiceError
from app.routes.disconnect import end, run_while_connected
from app.schemas.events import TaskEvent
from app.schemas.tasks import TaskProgress

HEARTBEAT_SECONDS: Final = 15.0

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    # A proxy that collects an answer before it passes it on would hold events back.
    "X-Accel-Buffering": "no",
}

_PROGRESS: Final = TypeAdapter(TaskProgress)

logger = logging.getLogger(__name__)


class EventStreamResponse(StreamingResponse):
    """Sends events until the task has ended, the client leaves, or `stopping` is set.

    Whichever comes first, `events` is closed at once. In silence a comment is sent every
    `heartbeat_seconds`. With `only_if_any`, for a client that may have had all events, the first
    one is awaited before the status is sent: 204, which keeps a browser from connecting again,
    when there is none.
    """

    # Not FastAPI's EventSourceResponse: with that, a route has to be a generator, whose errors
    # come after the status was sent.
    media_type = "text/event-stream"
    body_iterator: AsyncGenerator[bytes, None]

    def __init__(
        self,
        events: AsyncGenerator[TaskEvent, None],
        stopping: asyncio.Event,
        *,
        only_if_any: bool = False,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        super().__init__(self._pieces(), headers=HEADERS)
        self._events = events
        self._stopping = stopping
        self._only_if_any = only_if_any
        self._heartbeat_seconds = heartbeat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not the base's task group: it cancels again and again, and so closing would not finish.
        async with aclosing(self._events):
            with suppress(ClientDisconnect):
                await run_while_connected(Request(scope, receive), self._answer(send))

    async def _answer(self, send: Send) -> None:
        async with aclosing(self.body_iterator) as pieces:
            # An error here is an answer of its own; later it can only end the stream.
            piece = await anext(pieces, None) if self._only_if_any else b""
            if piece is None and not self._stopping.is_set():
                self.status_code = 204
                del self.headers["Content-Type"]
            start = {"type": "http.response.start", "status": self.status_code}
            await send(start | {"headers": self.raw_headers})
            while piece is not None:
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = await _next_if_any(pieces)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        stopping = asyncio.ensure_future(self._stopping.wait())
        following: asyncio.Future[TaskEvent | None] | None = None
        try:
            while True:
                if following is None:
                    following = asyncio.ensure_future(anext(self._events, None))
                await asyncio.wait(
                    (following, stopping),
                    timeout=self._heartbeat_seconds,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if stopping.done():
                    return
                if not following.done():
                    yield KEEPALIVE_COMMENT
                    continue
                event, following = following.result(), None
                if event is None:
                    return
                yield encoded(event)
                if event.event == "state" and event.data.status.has_ended:
                    return
        finally:
            await end(stopping)
            if following is not None:
                await end(following)


async def _next_if_any(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        return await anext(pieces, None)
    except ServiceError as error:
        logger.warning("a stream of events ended early: %s", error)
    except Exception:
        logger.exception("a stream of events ended early")
    return None


def encoded(event: TaskEvent) -> bytes:
    """In the format of `text/event-stream`."""
    data = _PROGRESS.dump_json(event.data).decode()
    return format_sse_event(data_str=data, event=event.event, id=event.id)
