"""Streams of events are opened one after another, with turns for other requests in between."""

from __future__ import annotations

import asyncio
from collections import deque

from starlette.types import ASGIApp, Receive, Scope, Send


class OpeningTurns:
    """Lets one request below a path begin in each turn of the event loop.

    Clients that lost their streams together come back together. To begin a thousand streams takes
    seconds, and no other request would be answered meanwhile.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        """`path` is one that routes are below; the application may itself be mounted anywhere."""
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
