"""Ending work early, because its client disconnects or the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Final, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from hotloop.app.errors import NotReadyError

T = TypeVar("T")

STOP_RETRY_SECONDS: Final = 5
"""Retry-After of requests that a stop ends: by then the service may be up again."""


async def run_while_connected(
    request: Request, work: Coroutine[object, object, T], *, body_read: asyncio.Event | None = None
) -> T:
    """Await `work`; if the client leaves, cancel it, await its end and raise ClientDisconnect.

    Call this after the request's body was read, or set `body_read` then: until then only the reader
    of the body notices that the client leaves. Cancelling this call cancels `work` too.
    """
    return await run_until(disconnected(request, body_read), work, ClientDisconnect())


async def run_until_stop(work: Coroutine[object, object, T], stopping: asyncio.Event) -> T:
    """Await `work`; when the service begins to stop, cancel it and raise NotReadyError."""
    error = NotReadyError("the service stops; ask again when it is back", STOP_RETRY_SECONDS)
    return await run_until(stopping.wait(), work, error)


async def run_until(
    event: Coroutine[object, object, object], work: Coroutine[object, object, T], error: Exception
) -> T:
    """Await `work`; if `event` ends first, cancel it, await its end and raise `error`. Cancelling
    this call cancels both.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(event)
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise error
    finally:
        await end(watcher)
        await end(task)


async def disconnected(request: Request, body_read: asyncio.Event | None = None) -> None:
    """Wait until the client has left. `body_read` is as for `run_while_connected`."""
    if body_read is not None:
        await body_read.wait()
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def end(task: asyncio.Future[T]) -> None:
    """Cancel the task unless it is done, await its end, and drop its result or error."""
    if not task.done():
        task.cancel()
        await asyncio.wait((task,))
    if not task.cancelled():
        # Marks the exception as retrieved; callers that need it have raised it already.
        task.exception()
