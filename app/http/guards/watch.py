"""Every request gets an id, a log line, a span and a count; streams of events open in turns."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Final

from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app.http.access import CLIENT
from hotloop.app.logs.formatting import FIELDS
from hotloop.app.logs.origin import Origin, bound
from hotloop.app.observability.tracing import context_of, traceparent_of, tracer

REQUEST_ID: Final = "X-Request-ID"
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER: Final = "other"
"""Name for all unknown paths and methods, so that clients cannot create new metric labels."""

NO_ANSWER: Final = 499
"""The status, as nginx has it, of a request whose client left before it was answered."""

access = logging.getLogger("hotloop.app.http.access")

Note = Callable[[str, str, int, float], None]
"""Function that counts a request by its route, method, status and seconds."""


class WatchMiddleware:
    """Logs, counts, times and traces each request. It must be outermost, to see every answer.

    The request id is the client's if it is well-formed, else a new one; the answer repeats it. Logs
    have the path's template and never the query, because paths and queries may hold private data.
    """

    def __init__(self, app: ASGIApp, note: Note, is_stopping: Callable[[], bool]) -> None:
        self.app = app
        self._note = note
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        scope.setdefault("state", {})  # here, so that copies of the scope share it
        request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID))
        status = 0

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if self._is_stopping():
                    # The client's next request then goes to the process that listens by then.
                    headers["Connection"] = "close"
            await send(message)

        headers = Headers(scope=scope)
        method = scope["method"] if scope["method"] in METHODS else OTHER
        with (
            tracer().start_as_current_span(
                method,
                context=context_of(headers.get("traceparent")),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": method, "hotloop.request_id": request_id},
                record_exception=False,  # its text may hold the client's data
                set_status_on_exception=False,
            ) as span,
            bound(Origin(request_id=request_id, traceparent=traceparent_of(span))),
        ):
            try:
                await self.app(scope, receive, send_watched)
            finally:
                seconds = time.perf_counter() - started
                self._record(scope, span, method, status or NO_ANSWER, seconds)

    def _record(self, scope: Scope, span: Span, method: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", OTHER)
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.route": route, "http.response.status_code": status})
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        fields: dict[str, object] = {
            "method": method,
            "route": route,
            "status": status,
            "duration_seconds": round(seconds, 6),
        }
        client = client_of(scope)
        if client is not None:
            fields["client"] = client
        access.info("%s %s %d", method, route, status, extra={FIELDS: fields})
        self._note(route, method, status, seconds)


def client_of(scope: Scope) -> str | None:
    """Return the client's name in the store (`key:NAME`, `jwt:SUBJECT`), else its address; None for
    a request over a Unix socket without credentials.
    """
    client: str | None = scope["state"].get(CLIENT)
    peer = scope.get("client")
    return client if client is not None or peer is None else str(peer[0])


def request_id_of(given: str | None) -> str:
    """Return the given request id if it is safe in any log, else a new one."""
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given
    return uuid.uuid4().hex


class OpeningTurns:
    """Lets one request below a path begin in each turn of the event loop.

    Clients that lose their event streams together reconnect together. Opening a thousand streams
    takes seconds, in which no other request would be answered.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        """`path` is the prefix of the routes; the application itself may be mounted anywhere."""
        self.app = app
        self._path = f"{path}/"
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_taken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._path in scope["path"]:
            await self._turn()
        await self.app(scope, receive, send)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_taken:
            turn = loop.create_future()
            self._waiting.append(turn)
            await turn
        else:
            self._is_taken = True
            loop.call_soon(self._next)

    def _next(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # its request was not cancelled
                turn.set_result(None)
                turn.get_loop().call_soon(self._next)
                return
        self._is_taken = False
