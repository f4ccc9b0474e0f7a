"""Large bodies are read in another process.

Parsing and checking is one call that keeps the interpreter to itself: a thread would hold up the
event loop as much. What comes back is small: the rows as columns, and faults in words.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from hotloop.app.errors import NotReadyError
from hotloop.app.runhost.fair_queue import FairQueue
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.runs import RunRequest, read_request
from hotloop.app.wording import RULE, describe

LARGE_BYTES: Final = 32 * 1_024
"""From here on: about 600 rows, which take half a millisecond."""

_MAX_LISTED: Final = 1_000
_MAX_NAME: Final = 500
"""Characters of an unknown field's name: it may be as long as the body."""

Body = TypeVar("Body", bound=RunRequest)


@dataclass(frozen=True, slots=True)
class Faults:
    """What is wrong with a body, as FastAPI's RequestValidationError takes it."""

    faults: list[dict[str, Any]]


def read_body(model: type[Body], content: bytes) -> Body | Faults:
    """Parse and check, here and now."""
    try:
        return read_request(model, content)
    except ValidationError as error:
        # A hostile body has a million unknown fields; listing them would take seconds.
        if error.error_count() > _MAX_LISTED:
            return refused(f"has {error.error_count():,} faults")
        found = error.errors(include_url=False)
    return Faults([dict(fault) | {"loc": ("body", *fault["loc"])} for fault in found])


def refused(text: str) -> Faults:
    """The body as a whole."""
    return Faults([{"type": RULE, "loc": ("body",), "msg": text, "input": None}])


def _read_large(model: type[Body], content: bytes) -> Body | Faults:
    """In the other process: as `read_body`, and fit to be sent."""
    read = read_body(model, content)
    if isinstance(read, Faults):
        return Faults([_in_words(fault) for fault in read.faults])
    if read.items is None:
        return read
    return read.model_copy(update={"items": ItemColumns.of(read.workload, read.items)})


def _in_words(fault: dict[str, Any]) -> dict[str, Any]:
    """The fault without its input, which may be the whole body."""
    context = fault.get("ctx", {})
    return {
        "type": RULE,
        "loc": tuple(x if isinstance(x, int) else x[:_MAX_NAME] for x in fault["loc"]),
        "msg": describe(fault),
        "input": None,
        "ctx": {"field": context["field"]} if "field" in context else {},
    }


def _begin() -> None:
    """First in the other process. It must not outlive this one, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class BodyReader:
    """One other process, started for the first large body. Bodies are read one after another, in
    turns over clients: one that sends many delays nobody but itself.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._starting = asyncio.Lock()
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._is_reading = False

    async def read(
        self, model: type[Body], content: bytes, client: str | None = None
    ) -> Body | Faults:
        """Raises NotReadyError when the other process dies."""
        if len(content) < LARGE_BYTES:
            return read_body(model, content)
        async with self._in_turn(client):
            return await self._read_there(model, content)

    @asynccontextmanager
    async def _in_turn(self, client: str | None) -> AsyncIterator[None]:
        if self._is_reading:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.put(client, turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not self._waiting.remove(client, turn):
                    self._next_turn()  # it was this one's already
                raise
        self._is_reading = True
        try:
            yield
        finally:
            self._next_turn()

    def _next_turn(self) -> None:
        while self._waiting:
            turn = self._waiting.get()
            if not turn.done():
                turn.set_result(None)
                return
        self._is_reading = False

    async def _read_there(self, model: type[Body], content: bytes) -> Body | Faults:
        async with self._starting:
            if self._pool is None:
                self._pool = await asyncio.to_thread(_started)
            pool = self._pool
        try:
            return await asyncio.wrap_future(pool.submit(_read_large, model, content))
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = None
                await asyncio.to_thread(pool.shutdown)
            raise NotReadyError(
                "the process that reads large bodies died; send the body again", 1
            ) from None

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)


def _started() -> ProcessPoolExecutor:
    """Starting takes long, and must not be the event loop's work."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        pool.shutdown()
        raise NotReadyError("the process that reads large bodies does not start", 5) from None
    return pool
