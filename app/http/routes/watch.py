"""What is seen of every request: its id, a line of the log, a count and a time."""

from __future__ import annotations

import logging
import re
import time
import uuid
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
"""Stands for paths that are no route's, and methods that nobody knows: clients could otherwise
make any number of names."""

NO_ANSWER: Final = 499
"""The status, known from nginx, of a request whose client left before it was answered."""

access = logging.getLogger("hotloop.app.http.access")

Note = Callable[[str, str, int, float], None]
"""Route, method, status, seconds."""


class WatchMiddleware:
    """To be the outermost, so that nothing is answered that is not seen.

    A request id is taken from the request when it is well-formed, else made, and is in the answer.
    Paths are told by their template, and never with a query: both may hold what is nobody's
    business.
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
        scope.setdefault("state", {})  # here, so that it is one for all who copy the scope
        request_id = request_id_of(Headers(scope=scope).get(REQUEST_ID))
        status = 0

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                if self._is_stopping():
                    # The client's next request goes to whoever listens then.
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
                record_exception=False,  # its text may hold what the client has sent
                set_status_on_exception=False,
            ) as span,
            bound(Origin(request_id=request_id, traceparent=traceparent_of(span))),
        ):
            try:
                await self.app(scope, receive, send_watched)
            finally:
                seconds = time.perf_counter() - started
                self._tell(scope, span, method, status or NO_ANSWER, seconds)

    def _tell(self, scope: Scope, span: Span, method: str, status: int, seconds: float) -> None:
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
    """The client as the store names it (`key:NAME`, `jwt:SUBJECT`), else the address that it asked
    from; None for a request over a Unix socket that shows no credentials.
    """
    client: str | None = scope["state"].get(CLIENT)
    peer = scope.get("client")
    return client if client is not None or peer is None else str(peer[0])


def request_id_of(given: str | None) -> str:
    """The client's, when it is one that any log can hold, else a new one."""
    if given is not None and _WELL_FORMED.fullmatch(given):
        return given
    return uuid.uuid4().hex
