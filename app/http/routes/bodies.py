"""The bodies of runs and calls, parsed and checked in one pass over their bytes.

Large bodies are read in another process. Parsing and checking is one call that holds the GIL, so
a thread would block the event loop as much. What comes back is small: the rows as columns, and
faults as texts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Final, TypeVar, cast

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from hotloop.app.errors import NotReadyError
from hotloop.app.http.access import ClientDep
from hotloop.app.http.answers import JSON
from hotloop.app.http.routes.headers import require_content_type
from hotloop.app.runhost.fair_queue import FairQueue
from hotloop.app.schemas.base import RequestModel
from hotloop.app.schemas.calls import CallRequest, call_model
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, read_request
from hotloop.app.security.clients import Client
from hotloop.app.system import end_with_parent
from hotloop.app.wording import RULE, describe
from hotloop.kernels import (
    Workload,
    declare,
    declared_workloads,
    get_workload,
    withdraw,
    workloads,
)

LARGE_BYTES: Final = 32 * 1_024
"""The least size of a large body: about 600 rows, which take half a millisecond."""

_MAX_LISTED: Final = 1_000
_MAX_NAME: Final = 500
"""Characters kept of an unknown field's name, which may be as long as the body."""

_HINT: Final = "with curl: -H 'Content-Type: application/json' -d '{}'"

Run = TypeVar("Run", bound=RunRequest)
Body = TypeVar("Body", bound=RunRequest | CallRequest)


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of a body, in the form that FastAPI's RequestValidationError takes."""

    faults: list[dict[str, Any]]


def read_run(model: type[Run], content: bytes) -> Run | Faults:
    """Parse and check the body of a run."""
    try:
        return read_request(model, content)
    except ValidationError as error:
        return _faults_of(error)


def read_call(workload: str, content: bytes) -> CallRequest | Faults:
    """Parse and check the body of a call of a declared workload."""
    try:
        return call_model(get_workload(workload)).model_validate_json(content)
    except ValidationError as error:
        return _faults_of(error)


def _faults_of(error: ValidationError) -> Faults:
    # A hostile body has a million unknown fields; listing them would take seconds.
    if error.error_count() > _MAX_LISTED:
        return refused(f"has {error.error_count():,} faults")
    found = error.errors(include_url=False)
    return Faults([dict(fault) | {"loc": ("body", *fault["loc"])} for fault in found])


def refused(text: str) -> Faults:
    """Return one fault of the body as a whole."""
    return Faults([{"type": RULE, "loc": ("body",), "msg": text, "input": None}])


def _read_large(read: Callable[[bytes], Body | Faults], content: bytes) -> Body | Faults:
    """Read a body in the reader process, and make the result small enough to send back."""
    found = read(content)
    if isinstance(found, Faults):
        return Faults([_in_words(fault) for fault in found.faults])
    if found.items is None:
        return found
    rows = ItemColumns.of(found.workload, found.items)
    return cast("Body", found.model_copy(update={"items": rows}))


def _in_words(fault: dict[str, Any]) -> dict[str, Any]:
    """Return the fault without its input, which may be the whole body."""
    context = fault.get("ctx", {})
    return {
        "type": RULE,
        "loc": tuple(x if isinstance(x, int) else x[:_MAX_NAME] for x in fault["loc"]),
        "msg": describe(fault),
        "input": None,
        "ctx": {"field": context["field"]} if "field" in context else {},
    }


def _learn(declared: tuple[Workload, ...]) -> None:
    """Make these the only declared workloads of the reader process."""
    for name in set(workloads()) - {each.name for each in declared}:
        withdraw(name)
    for each in declared:
        declare(each)


def _as_data(workload: Workload) -> Workload:
    """Return the declaration without functions, which the reader process could not import."""
    columns = tuple(replace(column, sampler=None) for column in workload.columns_in)
    return replace(workload, columns_in=columns)


def _begin() -> None:
    """Set up the reader process, which must end when this process ends, even by a kill."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


class BodyReader:
    """Reads large bodies in one reader process, which the first large body starts.

    Bodies are read one after another, with the clients taking turns, so that a client that sends
    many bodies delays only itself.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._learned: tuple[Workload, ...] = ()
        self._starting = asyncio.Lock()
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._is_reading = False

    async def read(
        self,
        read: Callable[[bytes], Body | Faults],
        content: bytes,
        client: str | None = None,
    ) -> Body | Faults:
        """Return what `read`, which must be picklable, makes of a body. Raises NotReadyError if the
        reader process dies.
        """
        if len(content) < LARGE_BYTES:
            return read(content)
        async with self._in_turn(client):
            return await self._read_there(read, content)

    @asynccontextmanager
    async def _in_turn(self, client: str | None) -> AsyncIterator[None]:
        if self._is_reading:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.put(client, turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not self._waiting.remove(client, turn):
                    self._next_turn()  # this body already had the turn: pass it on
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

    async def _read_there(
        self, read: Callable[[bytes], Body | Faults], content: bytes
    ) -> Body | Faults:
        async with self._starting:
            if self._pool is None:
                self._pool = await asyncio.to_thread(_started)
                self._learned = ()
            pool = self._pool
        try:
            declared = declared_workloads()
            if declared != self._learned:
                as_data = tuple(map(_as_data, declared))
                await asyncio.wrap_future(pool.submit(_learn, as_data))
                self._learned = declared
            return await asyncio.wrap_future(pool.submit(_read_large, read, content))
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
    """Start the reader process. Blocks."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_begin)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        pool.shutdown()
        raise NotReadyError(
            "the process that reads large bodies does not start; send the body again", 5
        ) from None
    return pool


class NoQuery(RequestModel):
    """The query of a route that takes no query fields; a field in it was meant for the body."""


async def read_run_request(request: Request, client: ClientDep) -> RunRequest:
    return await read_in_turn(request, client, partial(read_run, RunRequest))


async def read_background_request(request: Request, client: ClientDep) -> BackgroundRequest:
    return await read_in_turn(request, client, partial(read_run, BackgroundRequest))


async def read_compare_request(request: Request, client: ClientDep) -> CompareRequest:
    """Read the body; a missing body counts as `{}`, because the query may have all fields."""
    if not await request.body():
        return CompareRequest()
    return await read_in_turn(request, client, partial(read_run, CompareRequest))


async def read_in_turn(
    request: Request, client: Client, read: Callable[[bytes], Body | Faults]
) -> Body:
    """Read the body. Raises RequestValidationError, a 415, NotReadyError, and PayloadTooLargeError.

    The bytes go to pydantic unchanged. FastAPI's own body parameter would pass them through
    `json.loads`: its errors on deep nesting and long integers become 400s, it accepts NaN, which
    is not JSON, and 100,000 rows would take twice as long.
    """
    body = await request.body()
    if not body:
        raise RequestValidationError(refused("is empty; send {} for the defaults").faults)
    require_content_type(request, (JSON,), _HINT)
    reader: BodyReader = request.app.state.bodies
    found = await reader.read(read, body, client.id)
    if isinstance(found, Faults):
        raise RequestValidationError(found.faults)
    return found


RunRequestDep = Annotated[RunRequest, Depends(read_run_request)]
BackgroundRequestDep = Annotated[BackgroundRequest, Depends(read_background_request)]
