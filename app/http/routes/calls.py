"""Routes of workloads: what one is, and calls of it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hotloop.app import errors
from hotloop.app.execution.calls import CallAnswer
from hotloop.app.http.access import ADMITTED, ANSWER_HEADERS, SECURITY, client_of
from hotloop.app.http.answers import ACCEPTED_RUN, JSON, WORKLOADS, accepted, path_of
from hotloop.app.http.dependencies import ServicesDep, get_services, get_state
from hotloop.app.http.guards.answers import plain_headers
from hotloop.app.http.guards.requests import OriginGuard
from hotloop.app.http.openapi import RUN_ERRORS, problem_responses
from hotloop.app.http.routes import bodies
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.schemas.calls import CallResult
from hotloop.app.schemas.declared import unknown_workload
from hotloop.app.schemas.service import KernelList
from hotloop.app.schemas.tasks import AcceptedRun
from hotloop.app.settings.settings import Settings
from hotloop.kernels import UnknownWorkloadError, Workload, get_workload

router = APIRouter(prefix=WORKLOADS)
calls_router = APIRouter(prefix=WORKLOADS)
"""The router of calls, which know their clients by `client_of`."""


async def get_declared(
    workload: Annotated[str, Path(description="A workload that GET /api/v1/tasks/kernels lists.")],
) -> Workload:
    """Return the workload. Raises a 404 that lists the workloads for another name."""
    try:
        return get_workload(workload)
    except UnknownWorkloadError:
        raise HTTPException(404, unknown_workload(workload[:60])) from None


WorkloadDep = Annotated[Workload, Depends(get_declared)]


@router.get(
    "/{workload}",
    tags=["calls"],
    summary="A workload and its kernels",
    responses=problem_responses(404, errors.NotReadyError),
)
async def get_workload_view(workload: WorkloadDep, services: ServicesDep) -> KernelList:
    """Return the declaration of a workload, and its kernels with their certificates."""
    return await services.kernels.list(workload.name)


_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The items are computed."},
    202: ACCEPTED_RUN,
}


@calls_router.post(
    "/{workload}",
    tags=["calls"],
    response_model=CallResult,
    summary="Compute a few items",
    responses={**_ANSWERS, **problem_responses(404, 415, errors.CallTimeoutError, *RUN_ERRORS)},
    openapi_extra={"security": SECURITY},
)
async def call_workload(request: Request) -> Response:
    """Compute a few items, and answer with the outputs of each.

    Calls that come at the same time share a kernel call. What is predicted to take longer than
    5 ms is executed as a run; if its estimate is over the service's limit, it becomes a background
    task, and `message` says why.
    """
    if (met := request.scope["state"].get(_MET)) is not None:
        raise met
    # Without dependencies, whose solving takes longer than everything else here.
    client = await client_of(request)
    workload = await get_declared(request.path_params["workload"])
    if request.query_params:
        _refuse_query(request)
    read = partial(bodies.read_call, workload.name)
    body = await bodies.read_in_turn(request, client, read)
    calls = (await get_services(await get_state(request))).calls
    answer = await run_while_connected(request, calls.call(workload, body, client.id))
    if isinstance(answer, AcceptedRun):
        return accepted(request, answer)
    return Response(call_json(answer), media_type=JSON)


def _refuse_query(request: Request) -> None:
    try:
        bodies.NoQuery.model_validate(dict(request.query_params))
    except ValidationError as error:
        faults = error.errors(include_url=False)
        raise RequestValidationError(
            [{**fault, "loc": ("query", *fault["loc"])} for fault in faults]
        ) from None


def call_json(answer: CallAnswer) -> bytes:
    """Return a CallResult as JSON. Pydantic would take as long to check it as the call takes."""
    names = tuple(answer.columns)
    columns = [column.tolist() for column in answer.columns.values()]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if answer.errors:
        missing = dict.fromkeys(names)
        rows = [
            missing if failed else row
            for failed, row in zip(answer.failed.tolist(), rows, strict=True)
        ]
    found = {
        "task_id": answer.task_id,
        "workload": answer.workload,
        "workload_version": answer.workload_version,
        "kernel": answer.kernel,
        "record": answer.record,
        "results": rows,
        "failed_items": sum(answer.failed.tolist()) if answer.errors else 0,
        "errors": answer.errors,
        "duration_seconds": answer.duration_seconds,
    }
    return to_json(found, inf_nan_mode="null")


_MET: Final = "call_met"
"""Key in a request's state: the error that a call met before the application got it."""

_SPECIAL: Final = frozenset(
    (b"content-encoding", b"cookie", b"origin", b"sec-fetch-site", b"transfer-encoding")
)
"""Headers of requests that other middleware must see."""


class ShortCalls:
    """Answers ordinary short calls itself, inside the middleware that watches every request, and
    hands everything else on to the application.

    The way through all middleware, FastAPI's routing and its dependencies takes longer than the
    call. What they do for such a request is done here by the same functions. An error is handed on,
    too, so that the application answers it like every other one.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self._origins = OriginGuard(app, settings)
        self._most_bytes = min(settings.max_body_bytes, bodies.LARGE_BYTES - 1)
        self._body_seconds = settings.body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        workload = self._workload(scope)
        if workload is None:
            await self.app(scope, receive, send)
            return
        read: list[Message] = []

        async def received() -> Message:
            return read.pop() if read else await receive()

        try:
            answer = await self._answer(workload, Request(scope, receive), read)
        except Exception as error:
            scope["state"][_MET] = error
            answer = None
        if answer is None:
            await self.app(scope, received, send)
            return
        scope["route"] = calls_router.routes[0]
        headers = plain_headers(JSON, len(answer))
        for name, value in scope["state"].get(ANSWER_HEADERS, {}).items():
            headers.append((name.lower().encode(), value.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _workload(self, scope: Scope) -> Workload | None:
        """Return the workload of an ordinary call; None for any other request."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["query_string"]:
            return None
        prefix, _, name = path_of(scope).rpartition("/")
        if prefix != WORKLOADS or not hasattr(scope["app"].state, "shared"):
            return None
        is_json, length = False, b""
        for key, value in scope["headers"]:
            if key in _SPECIAL:
                return None
            if key == b"content-type":
                is_json = value == JSON.encode()
            elif key == b"content-length":
                length = value
        if not (is_json and length.isdigit() and int(length[:15]) <= self._most_bytes):
            return None
        if self._origins.fault("POST", Headers(scope=scope), scope["scheme"]) is not None:
            return None
        try:
            return get_workload(name)
        except UnknownWorkloadError:
            return None

    async def _answer(
        self, workload: Workload, request: Request, read: list[Message]
    ) -> bytes | None:
        """Return the answer's body; None if the application must answer. Add what was received to
        `read`. Raises what the route raises.
        """
        client = await client_of(request)
        request.scope["state"][ADMITTED] = client
        try:
            async with asyncio.timeout(self._body_seconds):
                message = await request.receive()
        except TimeoutError:
            raise errors.BodyTooSlowError(self._body_seconds) from None
        read.append(message)
        if message["type"] != "http.request" or message.get("more_body", False):
            return None
        body = bodies.read_call(workload.name, message.get("body", b""))
        if isinstance(body, bodies.Faults):
            return None
        calls = request.app.state.shared.services.calls
        ready = calls.short(workload, body)
        if ready is None:
            return None
        return call_json(await calls.compute(ready, body, client.id))
