"""Batch results on their way to the API: gathered while the last ones are being sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from hotloop.app.runhost.messages import Batches
from hotloop.app.strategies.base import BatchResult

SEND_INTERVAL_SECONDS: Final = 0.1
"""Between two messages, unless there is a full one: often enough for progress, and seldom enough
that receiving them, which wakes the API process, does not slow down the workers."""

FULL_BYTES: Final = 1 << 20
"""Results that make a full message; the run has to wait while another is on its way."""


class Outbox:
    """`put` results, `close` at the end; what `send` raises comes out of both."""

    def __init__(self, send: Callable[[Batches], Awaitable[None]]) -> None:
        self._send = send
        self._held: list[BatchResult] = []
        self._held_bytes = 0
        self._closing = False
        self._changed = asyncio.Condition()
        self._sender = asyncio.create_task(self._send_all())

    async def put(self, result: BatchResult) -> None:
        """Waits while FULL_BYTES are here."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._full or self._sender.done())
            if self._sender.done():
                self._sender.result()
            self._held.append(result)
            self._held_bytes += _size_bytes(result)
            self._changed.notify_all()

    @property
    def _full(self) -> bool:
        return self._held_bytes >= FULL_BYTES

    async def close(self) -> None:
        """Returns when everything was sent."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        await self._sender

    async def _send_all(self) -> None:
        try:
            while True:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._held or self._closing)
                    held, self._held, self._held_bytes = self._held, [], 0
                    self._changed.notify_all()
                if not held:
                    return
                await self._send(Batches(tuple(held)))
                del held
                await self._pause()
        finally:
            async with self._changed:
                self._changed.notify_all()

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEND_INTERVAL_SECONDS), self._changed:
                await self._changed.wait_for(lambda: self._full or self._closing)


def _size_bytes(result: BatchResult) -> int:
    return result.item_ids.nbytes + sum(column.nbytes for column in result.columns.values())
