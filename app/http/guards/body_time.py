"""The bound on the time that a request's body may take to arrive."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app.errors import BodyTooSlowError
from hotloop.app.settings.settings import Settings

BYTES_PER_SECOND: Final = 16 * 1024
"""What a body that comes steadily may take beyond the bound: a second for so many bytes."""


class BodyTimeMiddleware:
    """Bodies that trickle raise BodyTooSlowError in the route that reads them.

    Only waiting for the client counts, not what happens between two reads.
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
            if is_complete:  # what comes now is that the client has left
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
