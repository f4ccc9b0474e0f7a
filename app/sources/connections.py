"""Connections to dependencies: one client for each event loop, kept between runs.

A stage is plain data that travels to worker processes; its connections are opened here when it is
first used. The blocking `fetch` of a stage runs `fetch_async` on a loop of its own, in a thread
that all worker threads of the process share: one implementation, one pool of connections.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import CancelledError, wait
from typing import Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from hotloop.app.sources.base import ItemBatch, ItemFetchError, Positions

STOP_CHECK_SECONDS: Final = 0.05
"""Time within which a blocking call notices that it must stop."""


class Connection(Protocol):
    """An open client."""

    async def close(self) -> None: ...


C = TypeVar("C", bound=Connection)

_lock = threading.Lock()
_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Any]] = (
    WeakKeyDictionary()
)
_blocking_loop: asyncio.AbstractEventLoop | None = None


def connection(key: Hashable, connect: Callable[[], C]) -> C:
    """Return the running loop's connection for `key`, and make it when there is none."""
    with _lock:
        mine = _connections.setdefault(asyncio.get_running_loop(), {})
    if key not in mine:
        mine[key] = connect()
    found: C = mine[key]
    return found


async def close_connections() -> None:
    """Close the connections of the running loop and of blocking calls; none may be in use."""
    await _close_mine()
    if _blocking_loop is not None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_close_mine(), _blocking_loop))


async def _close_mine() -> None:
    with _lock:
        mine = _connections.pop(asyncio.get_running_loop(), {})
    for opened in mine.values():
        await opened.close()


class AsyncStage(ABC):
    """A stage that implements `fetch_async`, and gets its blocking `fetch` from here."""

    __slots__ = ()

    @abstractmethod
    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None: ...

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        """Return when the items are fetched, or soon after `stop` is set."""
        run_blocking(self.fetch_async(batch, positions), stop)


def run_blocking(work: Coroutine[Any, Any, None], stop: threading.Event) -> None:
    """Run `work` on the loop of blocking calls; cancel and abandon it once `stop` is set."""
    if stop.is_set():
        work.close()
        return
    future = asyncio.run_coroutine_threadsafe(work, _loop_of_blocking_calls())
    while not wait((future,), STOP_CHECK_SECONDS).done:
        if stop.is_set():
            future.cancel()
            return
    try:
        future.result()
    except CancelledError as error:
        raise ItemFetchError("the call was cancelled") from error


def _loop_of_blocking_calls() -> asyncio.AbstractEventLoop:
    global _blocking_loop
    with _lock:
        if _blocking_loop is None:
            _blocking_loop = asyncio.new_event_loop()
            threading.Thread(
                target=_blocking_loop.run_forever, name="blocking-io", daemon=True
            ).start()
        return _blocking_loop
