"""Routes of tasks: the index, the list, and the state and results of a task."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from hotloop.app import errors
from hotloop.app.http.answers import ACCEPTED, CSV, NDJSON, TASKS, accepted, link_to, linked
from hotloop.app.http.dependencies import OwnTaskDep, ServicesDep, VisibleDep
from hotloop.app.http.openapi import QUOTA_ERRORS, STORE_ERRORS, problem_responses
from hotloop.app.http.routes.headers import best_media_type
from hotloop.app.names import StrategyName
from hotloop.app.schemas.declared import example_result
from hotloop.app.schemas.options import DEFAULT_WORKLOAD
from hotloop.app.schemas.results import ExportFormat, ExportQuery
from hotloop.app.schemas.service import KernelList, StrategyView, TaskIndex
from hotloop.app.schemas.tasks import ClearedTasks, TaskPage, TaskQuery, TaskView
from hotloop.app.sources.arrow_rows import ARROW, HOW_TO_INSTALL, PARQUET, has_pyarrow

router = APIRouter(prefix=TASKS)

_DESCRIPTIONS: Final = {
    StrategyName.SEQUENTIAL: "One item after another, in line: the baseline.",
    StrategyName.THREADING: (
        "Waits and computes in worker threads; computes in parallel with kernels that release "
        "the GIL."
    ),
    StrategyName.MULTIPROCESSING: "Waits and computes in the processes of a multiprocessing pool.",
    StrategyName.ASYNC_BATCH: (
        "Waits for all items of a batch at once, then computes the batch; batch after batch."
    ),
    StrategyName.CONCURRENT_FUTURES: (
        "Waits and computes in worker processes, with a window of futures and another try after "
        "a crash."
    ),
    StrategyName.HYBRID: (
        "Waits for a sliding window of items and computes finished batches meanwhile, in threads "
        "or processes as the kernel allows."
    ),
    StrategyName.RAY: "Waits and computes in tasks of a Ray cluster, in parcels of batches.",
    StrategyName.DASK: "Waits and computes in tasks of a Dask cluster, in parcels of batches.",
}

_LINKS: Final = {
    "kernels": f"{TASKS}/kernels",
    "upload": f"{TASKS}/upload",
    "background": f"{TASKS}/background",
    "compare": f"{TASKS}/compare",
    "recommendations": f"{TASKS}/recommendations",
    "results": f"{TASKS}/results",
    "status": f"{TASKS}/status/{{task_id}}",
    "events": f"{TASKS}/events/{{task_id}}",
    "docs": "/docs",
}

_MEDIA_TYPES: Final = {
    ExportFormat.NDJSON: NDJSON,
    ExportFormat.CSV: CSV,
    ExportFormat.ARROW: ARROW,
} | ({ExportFormat.PARQUET: PARQUET} if has_pyarrow() else {})

_FILE_SUFFIXES: Final = {CSV: "csv", ARROW: "arrows", PARQUET: "parquet"}
"""File name suffixes of the types that browsers should save, not show."""

_ROW: Final = example_result(DEFAULT_WORKLOAD)

_FILE: Final[dict[str, Any]] = {
    "description": "A line, or a row of a record batch, for each item, in the order of items.",
    "headers": {
        "Link": {
            "description": 'The next page as `<path>; rel="next"`; absent on the last one.',
            "schema": {"type": "string"},
        },
        "Accept-Ranges": {
            "description": "Pages are asked for by `offset` and `limit`, not by ranges of bytes.",
            "schema": {"type": "string", "const": "none"},
        },
    },
    "content": {
        NDJSON: {
            "schema": {"type": "string"},
            "example": f"{json.dumps(_ROW, separators=(',', ':'))}\n",
        },
        CSV: {
            "schema": {"type": "string"},
            "example": f"{','.join(_ROW)}\n{','.join(map(str, _ROW.values()))}\n",
        },
        **{
            media_type: {"schema": {"type": "string", "format": "binary"}}
            for media_type in (ARROW, PARQUET)
            if media_type in _MEDIA_TYPES.values()
        },
    },
}


@router.get("", tags=["tasks"], summary="The strategies", responses=problem_responses())
async def get_task_index(request: Request, services: ServicesDep) -> TaskIndex:
    """Return the strategies with descriptions, and links to the other routes."""
    return TaskIndex(
        strategies=[
            StrategyView(
                name=name,
                description=_DESCRIPTIONS[name],
                method="POST",
                href=link_to(request, f"{TASKS}/{name}"),
            )
            for name in services.runs.offered_strategies
        ],
        links={name: link_to(request, path) for name, path in _LINKS.items()},
    )


@router.get(
    "/kernels",
    tags=["tasks"],
    summary="Workloads and kernels",
    responses=problem_responses(errors.NotReadyError),
)
async def list_kernels(services: ServicesDep) -> KernelList:
    """List the kernels of each workload, with their availability and their speed at start."""
    return await services.kernels.list()


@router.get(
    "/status/{task_id}",
    tags=["tasks"],
    summary="The state of a task",
    responses=problem_responses(errors.TaskNotFoundError, *STORE_ERRORS),
)
async def get_task(task_id: OwnTaskDep, services: ServicesDep, request: Request) -> TaskView:
    """Return state, progress, the estimated remaining time, and the result once there is one."""
    return linked(request, await services.tasks.get(task_id))


@router.post(
    "/{task_id}/resume",
    tags=["background"],
    status_code=202,
    response_model=TaskView,
    summary="Resume a task",
    responses={
        202: ACCEPTED,
        **problem_responses(
            errors.TaskNotFoundError,
            errors.TaskConflictError,
            *QUOTA_ERRORS,
            errors.NotReadyError,
            *STORE_ERRORS,
        ),
    },
)
async def resume_task(task_id: OwnTaskDep, services: ServicesDep, request: Request) -> Response:
    """Continue a failed or cancelled task where it ended; its finished items are kept.

    The answer is 409 for a task in another state.
    """
    return accepted(request, await services.background.resume(task_id))


@router.post(
    "/{task_id}/retry-failed",
    tags=["background"],
    status_code=202,
    response_model=TaskView,
    summary="Try the failed items again",
    responses={
        202: ACCEPTED,
        **problem_responses(
            errors.TaskNotFoundError, errors.TaskConflictError, *QUOTA_ERRORS, *STORE_ERRORS
        ),
    },
)
async def retry_failed_items(
    task_id: OwnTaskDep, services: ServicesDep, request: Request
) -> Response:
    """Execute the failed items of a completed background task once more; the results of all others
    are kept.

    The answer is 409 for a task in another state, or without failed items.
    """
    return accepted(request, await services.background.retry_failed(task_id))


class ExportResponse(StreamingResponse):
    """A streamed answer whose generator is closed at its end, or when the client leaves."""

    body_iterator: AsyncGenerator[bytes, None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


@router.get(
    "/results",
    tags=["results"],
    summary="Tasks, newest first",
    responses=problem_responses(*STORE_ERRORS),
)
async def list_tasks(
    query: Annotated[TaskQuery, Query()],
    services: ServicesDep,
    visible: VisibleDep,
    request: Request,
) -> TaskPage:
    """List the stored tasks, filtered and paged."""
    filters = query.status, query.strategy, query.kernel
    page = await services.tasks.page(*filters, query.limit, query.offset, query.kind, visible)
    end = query.offset + len(page.items)
    following = f"{TASKS}/results?{_fields(query.model_copy(update={'offset': end}))}"
    return page.model_copy(
        update={
            "items": [linked(request, task) for task in page.items],
            "next": link_to(request, following) if end < page.total else None,
        }
    )


def _fields(query: BaseModel) -> str:
    return urlencode(query.model_dump(mode="json", exclude_none=True))


@router.delete(
    "/results",
    tags=["results"],
    summary="Remove finished tasks",
    responses=problem_responses(*STORE_ERRORS),
)
async def clear_finished_tasks(services: ServicesDep, visible: VisibleDep) -> ClearedTasks:
    """Remove the ended tasks with their results; other tasks stay."""
    return await services.tasks.clear_finished(visible)


@router.delete(
    "/results/{task_id}",
    tags=["results"],
    summary="Remove a finished task",
    responses=problem_responses(errors.TaskNotFoundError, errors.TaskConflictError, *STORE_ERRORS),
)
async def delete_task(task_id: OwnTaskDep, services: ServicesDep) -> ClearedTasks:
    """Remove an ended task with its results; 409 for a task that has not ended: cancel it first."""
    return await services.tasks.delete(task_id)


@router.get(
    "/results/{task_id}",
    tags=["results"],
    summary="Every item's result",
    response_class=ExportResponse,
    responses={
        200: _FILE,
        **problem_responses(406, errors.TaskNotFoundError, errors.TaskConflictError, *STORE_ERRORS),
    },
)
async def export_results(
    task_id: OwnTaskDep,
    services: ServicesDep,
    request: Request,
    query: Annotated[ExportQuery, Query()],
) -> ExportResponse:
    """Stream the results as NDJSON, CSV, an Arrow IPC stream or Parquet, all or page by page; 409
    while the task is running. A service without pyarrow answers 406 for Parquet.
    """
    media_type = _negotiated(request.headers.get("accept"), query.format)
    export = await services.tasks.export(task_id, media_type, query.offset, query.limit)
    headers = {"Vary": "Accept", "Accept-Ranges": "none"}
    if media_type in _FILE_SUFFIXES:
        name = f"{task_id}.{_FILE_SUFFIXES[media_type]}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if export.next_offset is not None:
        following = query.model_copy(update={"offset": export.next_offset})
        path = link_to(request, f"{TASKS}/results/{task_id}?{_fields(following)}")
        headers["Link"] = f'<{path}>; rel="next"'
    return ExportResponse(export.pieces, media_type=media_type, headers=headers)


def _negotiated(accept: str | None, format: ExportFormat | None) -> str:
    offered = tuple(_MEDIA_TYPES.values())
    media_type = best_media_type(accept, offered) if format is None else _MEDIA_TYPES.get(format)
    if media_type is None:
        choices = f"{', '.join(offered[:-1])} or {offered[-1]}"
        install = "" if has_pyarrow() else f"; for Parquet have the operator run {HOW_TO_INSTALL}"
        raise HTTPException(
            406, f"results are offered as {choices}; change Accept, or add ?format={install}"
        )
    return media_type


@router.delete(
    "/{task_id}",
    tags=["tasks"],
    summary="Cancel a task",
    responses=problem_responses(errors.TaskNotFoundError, *STORE_ERRORS),
)
async def cancel_task(task_id: OwnTaskDep, services: ServicesDep, request: Request) -> TaskView:
    """End the task; its finished items are kept. Cancelling an ended task changes nothing."""
    return linked(request, await services.tasks.cancel(task_id))
