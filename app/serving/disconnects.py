"""Noticing that the client of a request has left, in an application that does not watch for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app.http.routes.disconnect import run_until

T = TypeVar("T")


class _Messages:
    """The messages of a request. Some may be read ahead, to find out that the client has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: deque[Message] = deque()
        self._reading: asyncio.Task[Message] | None = None

    async def receive(self) -> Message:
        """Return the next message, for the application."""
        if self._ahead:
            return self._ahead.popleft()
        if self._reading is not None:
            await asyncio.wait((self._reading,))
            if self._ahead:
                return self._ahead.popleft()
        return await self._receive()

    async def left(self) -> None:
        """Wait until the client has left. Messages of its body are kept for the application."""
        while True:
            if any(message["type"] == "http.disconnect" for message in self._ahead):
                return
            self._reading = asyncio.ensure_future(self._receive())
            try:
                self._ahead.append(await self._reading)
            finally:
                self._reading = None


_messages: Final[ContextVar[_Messages | None]] = ContextVar("hotloop_messages", default=None)


class DisconnectWatch:
    """Middleware that lets `while_connected` see the messages of each request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        messages = _Messages(receive)
        token = _messages.set(messages)
        try:
            await self._app(scope, messages.receive, send)
        finally:
            _messages.reset(token)


async def while_connected(work: Coroutine[Any, Any, T]) -> T:
    """Await `work`. If it belongs to a request whose client leaves, cancel it, await its end, and
    raise ClientDisconnect.
    """
    messages = _messages.get()
    if messages is None:
        return await work
    return await run_until(messages.left(), work, ClientDisconnect())
