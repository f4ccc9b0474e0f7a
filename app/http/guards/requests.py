"""Guards that refuse requests by their origin, and by the size and pace of their body."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app.errors import BodyTooSlowError, ForbiddenError, PayloadTooLargeError, ServiceError
from hotloop.app.http.access import SAFE_METHODS
from hotloop.app.http.answers import SESSION, UPLOAD, path_of
from hotloop.app.http.error_handlers import problem_response
from hotloop.app.settings.rules import host_of, is_loopback, is_named
from hotloop.app.settings.settings import Settings, variable_name
from hotloop.app.wording import echo

SESSION_BYTES: Final = 4_096
"""Most bytes of a body that signs in. A key has about a hundred. Any client may send this body,
and it is parsed on the event loop."""

BYTES_PER_SECOND: Final = 16 * 1024
"""Bytes for which a body that arrives steadily gets one second more."""


class ExposureGuard:
    """Answers 403 to requests that came in at an address other than loopback, if the service has
    no keys.

    Only other servers need it: `hotloop.app.serving.server` does not listen there without keys.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._is_open = not settings.needs_authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The port is None for a Unix socket; all is None where the server does not know.
        host, port = scope.get("server") or (None, None)
        is_outside = port is not None and not is_loopback(str(host))
        if self._is_open and scope["type"] == "http" and is_outside:
            error = ForbiddenError(
                "the service has no keys, so it answers on loopback addresses only; set "
                "HOTLOOP_API_KEYS (`hotloop key NAME` makes a key), or listen "
                "on 127.0.0.1"
            )
            await _refuse(error, scope, receive, send)
            return
        await self.app(scope, receive, send)


class OriginGuard:
    """Answers 403 to a Host that is not the service's, and to changes requested by a foreign page.

    A page on the internet can make a browser send requests to a service on the same machine or
    network: under a name of its own that resolves to that address (DNS rebinding), or as forms,
    for which browsers ask no permission.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._any_host = settings.needs_authentication and not settings.allowed_hosts
        self._hosts = frozenset(settings.allowed_hosts)
        self._origins = frozenset(settings.cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            error = self.fault(scope["method"], Headers(scope=scope), scope["scheme"])
            if error is not None:
                await _refuse(error, scope, receive, send)
                return
        await self.app(scope, receive, send)

    def fault(self, method: str, headers: Headers, scheme: str) -> ForbiddenError | None:
        """Return the error of a request that is refused."""
        # Every browser sends a Host; a client without one is not tricked by a page.
        for host in headers.getlist("host"):
            if not self._is_our_host(host_of(host)):
                return ForbiddenError(
                    f"the service does not answer to the name {echo(host_of(host))}; have the "
                    "operator add it to HOTLOOP_ALLOWED_HOSTS, or ask at localhost"
                )
        if method not in SAFE_METHODS and is_foreign(headers, scheme, self._origins):
            return ForbiddenError(
                f"pages of {echo(headers.get('origin', 'another site'))} must not make changes; "
                "have the operator add their origin to HOTLOOP_CORS_ORIGINS"
            )
        return None

    def _is_our_host(self, host: str) -> bool:
        if self._any_host or is_loopback(host):
            return True
        return is_named(host, self._hosts)


def is_foreign(headers: Headers, scheme: str, allowed: Collection[str]) -> bool:
    """Return True if a page of another origin, which is not allowed, sent this by the browser."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() in allowed:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        # Browsers set it and pages cannot. It is right behind a proxy that changes the Host, too.
        return site not in ("same-origin", "none")
    return origin is not None and origin.lower() != f"{scheme}://{headers.get('host', '')}".lower()


class BodyLimitMiddleware:
    """Answers 413 to bodies over `max_body_bytes`, to uploads over `max_upload_bytes`, and to
    sign-ins over SESSION_BYTES.

    A body whose Content-Length is too large is refused before any of it is read. For a body
    without one, reading past the limit raises PayloadTooLargeError in the route. The answer is 413
    whatever the application makes of the error: FastAPI would answer 400, and its `max_body_size`
    answers some such requests in plain text.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit, error = self._limit(path_of(scope))
        announced = Headers(scope=scope).get("content-length", "")
        # Digits only, and few: `int` refuses very long ones with an error.
        if announced.isdecimal() and (len(announced) > 15 or int(announced) > limit):
            await _refuse(error, scope, receive, send)
            return
        read, started = 0, False

        async def bounded_receive() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise error
            return message

        async def bounded_send(message: Message) -> None:
            nonlocal started
            if started or read <= limit:
                started = True
                await send(message)

        await self.app(scope, bounded_receive, bounded_send)
        if read > limit and not started:
            await _refuse(error, scope, receive, send)

    def _limit(self, path: str) -> tuple[int, PayloadTooLargeError]:
        if path == SESSION:
            return SESSION_BYTES, PayloadTooLargeError(SESSION_BYTES, None)
        name = "max_upload_bytes" if path == UPLOAD else "max_body_bytes"
        limit: int = getattr(self._settings, name)
        return limit, PayloadTooLargeError(limit, variable_name(name))


class BodyTimeMiddleware:
    """Raises BodyTooSlowError in the route that reads a body which arrives too slowly.

    Only the time spent waiting for the client counts, not the time between two reads.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._seconds = settings.body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        clock = asyncio.get_running_loop().time
        left = self._seconds
        is_complete = False

        async def received_in_time() -> Message:
            nonlocal left, is_complete
            if is_complete:  # the next message says that the client has left
                return await receive()
            begin = clock()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlowError(self._seconds) from None
            left -= clock() - begin
            left += len(message.get("body", b"")) / BYTES_PER_SECOND
            is_complete = not message.get("more_body", False)
            return message

        await self.app(scope, received_in_time, send)


async def _refuse(error: ServiceError, scope: Scope, receive: Receive, send: Send) -> None:
    await problem_response(Request(scope), error)(scope, receive, send)
