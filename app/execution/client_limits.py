"""Limits of a client: its unfinished background tasks and the bytes that its tasks store."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from hotloop.app.errors import ClientLimitError, ClientStorageError
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.model import Task

CLIENT_RETRY_SECONDS: Final = 30

KNOWN_SECONDS: Final = 5.0
"""Time for which an answer of the store is reused; bytes accepted here are added to it."""

_KNOWN_SHARE: Final = 100
"""Share of time spent on asking the store: at most one part in _KNOWN_SHARE."""

_MOST_CLIENTS: Final = 10_000


@dataclass(slots=True)
class _Stored:
    bytes: int
    until: float


class ClientStorage:
    """Bytes that each client stores or is sending, as this process knows them. Bytes that other
    processes accept are noticed within KNOWN_SECONDS; before a client is refused, the store is
    asked again. All methods may be called from any thread.
    """

    def __init__(self, stored_bytes: Callable[[str | None], int], limit_bytes: int) -> None:
        self._stored_bytes = stored_bytes
        self._limit_bytes = limit_bytes
        self._known: dict[str | None, _Stored] = {}
        self._coming: Counter[str | None] = Counter()
        self._lock = threading.Lock()

    def check(self, client: str | None, asked_bytes: int) -> None:
        """Check that the client may store `asked_bytes` more, and count them. Blocks. Raises
        ClientStorageError, StoreError.
        """
        if self.fits(client, asked_bytes):
            return
        begin = time.monotonic()
        stored = self._stored_bytes(client)
        now = time.monotonic()
        until = now + max(KNOWN_SECONDS, _KNOWN_SHARE * (now - begin))
        with self._lock:
            if len(self._known) >= _MOST_CLIENTS:
                self._known.clear()
            known = self._known[client] = _Stored(stored, until)
            taken = self._taken(client)
            if taken + asked_bytes > self._limit_bytes:
                raise ClientStorageError(taken, asked_bytes, self._limit_bytes)
            known.bytes += asked_bytes

    def fits(self, client: str | None, asked_bytes: int) -> bool:
        """Return True, and count the bytes, if it is known that the client may store them; False if
        `check` must ask the store.
        """
        with self._lock:
            known = self._known.get(client)
            fits = self._taken(client) + asked_bytes <= self._limit_bytes
            if known is None or time.monotonic() > known.until or not fits:
                return False
            known.bytes += asked_bytes
            return True

    @contextmanager
    def receiving(
        self, client: str | None, chunks: AsyncIterator[bytes]
    ) -> Iterator[AsyncIterator[bytes]]:
        """Count the bytes of an upload until the block ends. The block gets the chunks, which raise
        ClientStorageError as soon as the client exceeds its limit, and StoreError.
        """
        received = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal received
            async for chunk in chunks:
                received += len(chunk)
                with self._lock:
                    self._coming[client] += len(chunk)
                    exceeds = self._taken(client) > self._limit_bytes
                if exceeds:
                    await asyncio.to_thread(self.check, client, 0)
                yield chunk

        stored = False
        try:
            yield counted()
            stored = True
        finally:
            with self._lock:
                self._coming[client] -= received
                if not self._coming[client]:
                    del self._coming[client]
                if stored and client in self._known:
                    self._known[client].bytes += received

    def _taken(self, client: str | None) -> int:
        known = self._known.get(client)
        return (0 if known is None else known.bytes) + self._coming[client]


def check_client(settings: Settings, task: Task, count: int, seconds: float) -> None:
    """Check that the task's client may have it beside its `count` unfinished tasks, estimated at
    `seconds` together. Two requests at the same moment see each other's task in SQLite; in
    PostgreSQL they may not. Raises ClientLimitError.
    """
    if count >= settings.client_tasks:
        raise ClientLimitError(
            f"{count:,} of your background tasks wait or run, and at most "
            f"{settings.client_tasks:,} may; wait until some have ended, or cancel some",
            CLIENT_RETRY_SECONDS,
        )
    asked = task.estimated_seconds or 0.0
    if seconds + asked > settings.client_seconds:
        raise ClientLimitError(
            f"this task is estimated at {asked:,.0f} s, and your background tasks that wait or run "
            f"at {seconds:,.0f} s; the limit is {settings.client_seconds:,.0f} s in all. Ask for "
            "fewer items, wait, or cancel some tasks",
            CLIENT_RETRY_SECONDS,
        )
