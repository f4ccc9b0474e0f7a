"""Changes of breakers on their way to the API, at once and each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hotloop.app.sources.breaker_reports import BreakerReport, listening


class BreakerNews:
    """Reports of this process and of its workers; those that say nothing new are dropped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[BreakerReport | None] = asyncio.Queue()
        self._last: dict[str, BreakerReport] = {}

    def put(self, report: BreakerReport) -> None:
        if self._last.get(report.source) != report:
            self._last[report.source] = report
            self._queue.put_nowait(report)

    def put_from_thread(self, report: BreakerReport) -> None:
        self._loop.call_soon_threadsafe(self.put, report)

    async def send_all(self, send: Callable[[BreakerReport], Awaitable[None]]) -> None:
        """Until `end` is called."""
        while (report := await self._queue.get()) is not None:
            await send(report)

    def end(self) -> None:
        self._queue.put_nowait(None)


@asynccontextmanager
async def breaker_news(
    send: Callable[[BreakerReport], Awaitable[None]],
) -> AsyncIterator[BreakerNews]:
    """Sends what is put, and every change of a breaker of this process, until it is left."""
    news = BreakerNews()
    sender = asyncio.create_task(news.send_all(send))
    try:
        with listening(news.put_from_thread):
            yield news
    finally:
        news.end()
        await sender
