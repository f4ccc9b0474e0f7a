"""The bound on request bodies."""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.error_handlers import problem_response
from app.errors import PayloadTooLargeError
from app.routes.paths import UPLOAD
from app.settings import Settings, variable_name


class BodyLimitMiddleware:
    """Answers 413 to bodies over `max_body_bytes`, uploads over `max_upload_bytes`.

    A body that announces its length is refused before any of it is read; of one that does not,
    reading past the bound raises PayloadTooLargeError in the route. FastAPI's own `max_body_size`
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
        name = "max_upload_bytes" if path == UPLOAD else "max_body_bytes"
        limit: int = getattr(self._settings, name)
        error = PayloadTooLargeError(limit, variable_name(name))
        announced = Headers(scope=scope).get("content-length", "")
        # Digits only, and few: `int` refuses very long ones with an error.
        if announced.isdecimal() and (len(announced) > 15 or int(announced) > limit):
            await problem_response(Request(scope), error)(scope, receive, send)
            return
        read = 0

        async def bounded_receive() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise error
            return message

        await self.app(scope, bounded_receive, send)
