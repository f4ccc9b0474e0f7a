"""The bound of a service without keys: only this machine reaches it, whichever server serves it."""

from __future__ import annotations

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hotloop.app.errors import ForbiddenError
from hotloop.app.http.error_handlers import problem_response
from hotloop.app.settings.rules import is_loopback
from hotloop.app.settings.settings import Settings


class ExposureGuard:
    """Answers 403 to a request that came in at an address which is not loopback, if there are no
    keys. `hotloop.app.serving.server` needs no such guard: it does not listen there.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._is_open = not settings.needs_authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A path is the socket of a file; None is unknown to the server.
        host, port = scope.get("server") or (None, None)
        is_outside = port is not None and not is_loopback(str(host))
        if self._is_open and scope["type"] == "http" and is_outside:
            error = ForbiddenError(
                "the service has no keys, and answers on loopback addresses only; set "
                "HOTLOOP_API_KEYS (`python -m hotloop.app.security NAME` makes a key), or listen "
                "on 127.0.0.1"
            )
            await problem_response(Request(scope), error)(scope, receive, send)
            return
        await self.app(scope, receive, send)
