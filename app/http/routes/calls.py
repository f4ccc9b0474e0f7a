"""Routes of workloads: what one is, and calls of it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

from hotloop.app import errors
from hotloop.app.execution.calls import CallAnswer
from hotloop.app.http.access import SECURITY, client_of
from hotloop.app.http.answers import ACCEPTED_RUN, JSON, WORKLOADS, accepted
from hotloop.app.http.dependencies import ServicesDep, get_services, get_state
from hotloop.app.http.openapi import RUN_ERRORS, problem_responses
from hotloop.app.http.routes import bodies
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.schemas.calls import CallResult
from hotloop.app.schemas.declared import unknown_workload
from hotloop.app.schemas.service import KernelList
from hotloop.app.schemas.tasks import AcceptedRun
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
    # Without dependencies, whose solving takes longer than everything else here.
    client = await client_of(request)
    workload = await get_declared(request.path_params["workload"])
    if request.query_params:
        _refuse_query(request)
    read = partial(bodies.read_call, workload.name)
    body = await bodies.read_in_turn(request, client, read)
    calls = (await get_services(await get_state(request))).calls
    work = calls.call(workload, body, client.id)
    answer = await (work if calls.is_short(workload, body) else run_while_connected(request, work))
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
