"""An answer that goes on as long as a task has events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT
from starlette.types import Receive, Scope, Send

from hotloop.app.errors import ServiceError
from hotloop.app.http.routes.disconnect import disconnected, end
from hotloop.app.schemas.tasks import TaskEvent

HEARTBEAT_SECONDS: Final = 15.0

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    # A proxy that collects an answer before it passes it on would hold events back.
    "X-Accel-Buffering": "no",
}

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

    def __init__(
        self,
        events: AsyncGenerator[TaskEvent, None],
        stopping: asyncio.Event,
        *,
        only_if_any: bool = False,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        super().__init__((), headers=HEADERS)
        self._events = events
        self._stopping = stopping
        self._only_if_any = only_if_any
        self._heartbeat_seconds = heartbeat_seconds
        self._has_begun = self._is_sending = False
        self._sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Not the base's task group: it cancels again and again, and so closing would not finish.
        # Tasks are for the whole stream: one for each event would cost more than the event.
        telling = asyncio.ensure_future(self._tell(send))
        leaving = asyncio.ensure_future(disconnected(Request(scope, receive)))
        stopping = asyncio.ensure_future(self._stopping.wait())
        running: tuple[asyncio.Future[Any], ...] = telling, leaving, stopping
        async with aclosing(self._events):
            try:
                await self._wait(running, send)
                if telling.done():
                    telling.result()
                elif leaving.done():
                    return
            finally:
                for task in running:
                    await end(task)
        await self._end(send)

    async def _wait(self, tasks: tuple[asyncio.Future[Any], ...], send: Send) -> None:
        """Until one is done; comments are sent in silence."""
        while True:
            before = self._sent
            done, _ = await asyncio.wait(
                tasks, timeout=self._heartbeat_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if done:
                return
            if self._sent == before and self._has_begun and not self._is_sending:
                await self._send_piece(send, KEEPALIVE_COMMENT)

    async def _end(self, send: Send) -> None:
        await self._begin(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        """Send events until the last; an error before the first one was awaited is raised."""
        if self._stopping.is_set():
            return
        event: TaskEvent | None = None
        if self._only_if_any:
            # An error here is an answer of its own; later it can only end the stream.
            event = await anext(self._events, None)
            if event is None:
                self.status_code = 204
                del self.headers["Content-Type"]
                return
        await self._begin(send)
        while event is not None or (event := await self._next()) is not None:
            await self._send_piece(send, event.encoded)
            if event.event == "state" and event.data.status.has_ended:
                return
            event = None

    async def _begin(self, send: Send) -> None:
        if not self._has_begun:
            self._has_begun = True
            start = {"type": "http.response.start", "status": self.status_code}
            await send(start | {"headers": self.raw_headers})

    async def _send_piece(self, send: Send, piece: bytes) -> None:
        self._is_sending = True
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        self._is_sending = False
        self._sent += 1

    async def _next(self) -> TaskEvent | None:
        try:
            return await anext(self._events, None)
        except ServiceError as error:
            logger.warning("a stream of events ended early: %s", error)
        except Exception:
            logger.exception("a stream of events ended early")
        return None
