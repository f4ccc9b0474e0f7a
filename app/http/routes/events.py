"""Server-sent events of a task, in a stream that lasts as long as the task has events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT
from starlette.types import Receive, Scope, Send

from hotloop.app.errors import ServiceError, TaskNotFoundError
from hotloop.app.http.answers import EVENTS
from hotloop.app.http.dependencies import StateDep, WatchedTaskDep
from hotloop.app.http.openapi import STORE_ERRORS, problem_responses
from hotloop.app.http.routes.disconnect import disconnected, end
from hotloop.app.http.routes.headers import LastEventIdDep
from hotloop.app.schemas.tasks import EventQuery, TaskEvent

HEARTBEAT_SECONDS: Final = 15.0

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    # A proxy that collects an answer before it passes it on would hold events back.
    "X-Accel-Buffering": "no",
}

router = APIRouter(prefix=EVENTS, tags=["background"])

logger = logging.getLogger(__name__)


class EventStreamResponse(StreamingResponse):
    """Sends events until the task has ended, the client leaves, or `stopping` is set.

    Then `events` is closed at once. In silence a comment is sent every `heartbeat_seconds`. With
    `only_if_any`, for a client that may have had all events, the first event is awaited before the
    status is sent. If there is none, the status is 204, which keeps browsers from reconnecting.
    """

    # FastAPI's EventSourceResponse does not fit: its route has to be a generator, whose errors
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
        # The base class's task group cancels repeatedly, so that closing would not finish. These
        # tasks serve the whole stream: a task for each event would cost more than the event.
        sending = asyncio.ensure_future(self._send_events(send))
        leaving = asyncio.ensure_future(disconnected(Request(scope, receive)))
        stopping = asyncio.ensure_future(self._stopping.wait())
        running: tuple[asyncio.Future[Any], ...] = sending, leaving, stopping
        async with aclosing(self._events):
            try:
                await self._wait(running, send)
                if sending.done():
                    sending.result()
                elif leaving.done():
                    return
            finally:
                for task in running:
                    await end(task)
        await self._end(send)

    async def _wait(self, tasks: tuple[asyncio.Future[Any], ...], send: Send) -> None:
        """Wait until a task is done, and send comments in silence."""
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

    async def _send_events(self, send: Send) -> None:
        """Send events until the last. Raises an error that comes before the stream has begun."""
        if self._stopping.is_set():
            return
        event: TaskEvent | None = None
        if self._only_if_any:
            # An error here is answered as a problem; later it can only end the stream.
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


_EXAMPLE: Final = """\
event: progress
data: {"task_id":"task_4f9d02aa71c3e85b_1735689600","status":"running","items_processed":50,\
"total_items":100,"progress":0.5,"throughput_items_per_second":25.0,"estimated_remaining_seconds":2.0,\
"start_time":"2025-01-01T00:00:00Z","end_time":null,"error_message":null,"attempts":1,\
"node":"node-1","shards":{"total":1,"completed":0},"waiting_for":null}
id: 12

"""

_STREAM: Final[dict[str, Any]] = {
    "description": (
        "Events `progress` and `state`, whose data is a TaskProgress as JSON; a comment every 15 "
        "seconds when nothing happens. The stream ends after the state in which the task ended, "
        "and when the service stops."
    ),
    "headers": {
        name: {"description": description, "schema": {"type": "string", "const": HEADERS[name]}}
        for name, description in (
            ("Cache-Control", "Events are never kept."),
            ("X-Accel-Buffering", "Asks proxies to pass events on at once."),
        )
    },
    "content": {
        "text/event-stream": {
            "example": _EXAMPLE,
            # From OpenAPI 3.2.
            "itemSchema": {
                "type": "object",
                "required": ["data", "event", "id"],
                "properties": {
                    "event": {"type": "string", "enum": ["progress", "state"]},
                    "id": {"type": "string", "description": "For Last-Event-ID."},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": "#/components/schemas/TaskProgress"},
                    },
                },
            },
        }
    },
}


@router.get(
    "/{task_id}",
    summary="Watch a task",
    status_code=200,
    response_class=EventStreamResponse,
    responses={
        200: _STREAM,
        204: {
            "description": (
                "The task has ended, and Last-Event-ID names its last event: there is nothing "
                "left to send, and browsers do not connect again."
            )
        },
        **problem_responses(TaskNotFoundError, *STORE_ERRORS),
    },
)
async def watch_task(
    last_event_id: LastEventIdDep,
    task: WatchedTaskDep,
    state: StateDep,
    query: Annotated[EventQuery, Query()],
) -> EventStreamResponse:
    """Stream progress and changes of state (server-sent events) until the task has ended.

    The first event has the task's current state. After a break the stream continues after the event
    that the header Last-Event-ID names, or the query field for clients that cannot set headers.
    """
    seen = last_event_id or query.last_event_id or None
    return EventStreamResponse(
        state.services.background.events(task.data.task_id, seen),
        state.stopping,
        only_if_any=seen is not None and task.status.has_ended,
    )
