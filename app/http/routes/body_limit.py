"""The bound on request bodies."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app.errors import PayloadTooLargeError
from hotloop.app.http.error_handlers import problem_response
from hotloop.app.http.links import SESSION, UPLOAD
from hotloop.app.settings.settings import Settings, variable_name

SESSION_BYTES: Final = 4_096
"""A key is a hundred bytes, and everybody may send one: it is read on the event loop."""


class BodyLimitMiddleware:
    """Answers 413 to bodies over `max_body_bytes`, uploads over `max_upload_bytes`, and whatever is
    too large for a key.

    A body that announces its length is refused before any of it is read; of one that does not,
    reading past the bound raises PayloadTooLargeError in the route, and whatever the application
    makes of that is answered with 413: FastAPI itself would say 400, and its own `max_body_size`
    answers some of these in plain text.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        limit, error = self._limit(path)
        announced = Headers(scope=scope).get("content-length", "")
        # Digits only, and few: `int` refuses very long ones with an error.
        if announced.isdecimal() and (len(announced) > 15 or int(announced) > limit):
            await problem_response(Request(scope), error)(scope, receive, send)
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
            await problem_response(Request(scope), error)(scope, receive, send)

    def _limit(self, path: str) -> tuple[int, PayloadTooLargeError]:
        if path == SESSION:
            return SESSION_BYTES, PayloadTooLargeError(SESSION_BYTES, None)
        name = "max_upload_bytes" if path == UPLOAD else "max_body_bytes"
        limit: int = getattr(self._settings, name)
        return limit, PayloadTooLargeError(limit, variable_name(name))
