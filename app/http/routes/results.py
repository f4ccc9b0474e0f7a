"""Results: the list of tasks, removing them, and every item's result of one task."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from hotloop.app import errors
from hotloop.app.http.dependencies import OwnTaskDep, ServicesDep, VisibleDep
from hotloop.app.http.error_handlers import STORE_ERRORS, problem_responses
from hotloop.app.http.root_path import link_to
from hotloop.app.http.routes.media_types import ARROW, CSV, NDJSON, best_media_type
from hotloop.app.http.routes.paths import TASKS
from hotloop.app.schemas.exports import ExportFormat, ExportQuery
from hotloop.app.schemas.tasks import ClearedTasks, TaskPage, TaskQuery

router = APIRouter(prefix=f"{TASKS}/results", tags=["results"])


class ExportResponse(StreamingResponse):
    """A stream that is closed at its end, also when the client leaves in the middle."""

    body_iterator: AsyncGenerator[bytes, None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


_MEDIA_TYPES: Final = {
    ExportFormat.NDJSON: NDJSON,
    ExportFormat.CSV: CSV,
    ExportFormat.ARROW: ARROW,
}

_FILE_SUFFIXES: Final = {CSV: "csv", ARROW: "arrows"}
"""Of what browsers had better store than show."""

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
            "example": '{"item_id":0,"loop":-27.38,"nested":9388000}\n',
        },
        CSV: {"schema": {"type": "string"}, "example": "item_id,loop,nested\n0,-27.38,9388000\n"},
        ARROW: {"schema": {"type": "string", "format": "binary"}},
    },
}


@router.get(
    "",
    operation_id="list_tasks",
    summary="Tasks, newest first",
    responses=problem_responses(*STORE_ERRORS),
)
async def list_tasks(
    query: Annotated[TaskQuery, Query()], services: ServicesDep, visible: VisibleDep
) -> TaskPage:
    """Tasks that are kept, filtered and paged."""
    filters = query.status, query.strategy, query.kernel
    return await services.tasks.page(*filters, query.limit, query.offset, query.kind, visible)


@router.delete(
    "",
    operation_id="clear_finished_tasks",
    summary="Remove finished tasks",
    responses=problem_responses(*STORE_ERRORS),
)
async def clear_finished_tasks(services: ServicesDep, visible: VisibleDep) -> ClearedTasks:
    """Remove the tasks that have ended, with their results; running ones stay."""
    return await services.tasks.clear_finished(visible)


@router.delete(
    "/{task_id}",
    operation_id="delete_task",
    summary="Remove a finished task",
    responses=problem_responses(errors.TaskNotFoundError, errors.TaskConflictError, *STORE_ERRORS),
)
async def delete_task(task_id: OwnTaskDep, services: ServicesDep) -> ClearedTasks:
    """Remove one task that has ended, with its results; 409 for a task that has not: cancel it
    first.
    """
    return await services.tasks.delete(task_id)


@router.get(
    "/{task_id}",
    operation_id="export_results",
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
    """Results as NDJSON, CSV or an Arrow IPC stream, streamed, all or page by page; 409 while the
    task is running.
    """
    media_type = _negotiated(request.headers.get("accept"), query.format)
    export = await services.tasks.export(task_id, media_type, query.offset, query.limit)
    headers = {"Vary": "Accept", "Accept-Ranges": "none"}
    if media_type in _FILE_SUFFIXES:
        name = f"{task_id}.{_FILE_SUFFIXES[media_type]}"
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if export.next_offset is not None:
        following = query.model_copy(update={"offset": export.next_offset})
        fields = urlencode(following.model_dump(mode="json", exclude_none=True))
        headers["Link"] = f'<{link_to(TASKS)}/results/{task_id}?{fields}>; rel="next"'
    return ExportResponse(export.pieces, media_type=media_type, headers=headers)


def _negotiated(accept: str | None, format: ExportFormat | None) -> str:
    if format is not None:
        return _MEDIA_TYPES[format]
    offered = tuple(_MEDIA_TYPES.values())
    media_type = best_media_type(accept, offered)
    if media_type is None:
        choices = f"{', '.join(offered[:-1])} or {offered[-1]}"
        raise HTTPException(
            406, f"results are offered as {choices}; change Accept, or add ?format="
        )
    return media_type
