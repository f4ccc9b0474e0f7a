"""Batch results on their way to the API: gathered while the last ones are being sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from app.runhost.messages import Batches
from app.strategies.base import BatchResult

SEND_INTERVAL_SECONDS: Final = 0.1
"""Between two messages: often enough for progress, and seldom enough that receiving them, which
wakes the API process, does not slow down the workers."""

HELD_BYTES: Final = 8 << 20
"""Results that may wait here before the run has to."""


class Outbox:
    """`put` results, `close` at the end; what `send` raises comes out of both."""

    def __init__(self, send: Callable[[Batches], Awaitable[None]]) -> None:
        self._send = send
        self._held: list[BatchResult] = []
        self._held_bytes = 0
        self._changed = asyncio.Condition()
        self._closing = False
        self._sender = asyncio.create_task(self._send_all())

    async def put(self, result: BatchResult) -> None:
        """Waits while more than HELD_BYTES are here."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held_bytes < HELD_BYTES or self._ended)
            if self._ended:
                self._sender.result()
            self._held.append(result)
            self._held_bytes += _size_bytes(result)
            self._changed.notify_all()

    @property
    def _ended(self) -> bool:
        return self._sender.done()

    async def close(self) -> None:
        """Returns when everything was sent."""
        async with self._changed:
            self._closing = True
            self._changed.notify_all()
        await self._sender

    async def _send_all(self) -> None:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._held or self._closing)
                held, self._held, self._held_bytes = self._held, [], 0
                closing = self._closing
                self._changed.notify_all()
            if held:
                await self._send(Batches(tuple(held)))
            if closing and not self._held:
                return
            await asyncio.sleep(0 if self._closing else SEND_INTERVAL_SECONDS)


def _size_bytes(result: BatchResult) -> int:
    return result.item_ids.nbytes + sum(column.nbytes for column in result.columns.values())
