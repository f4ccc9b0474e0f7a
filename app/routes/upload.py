"""Runs over a file of items: `POST /api/v1/tasks/upload`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from app import errors
from app.dependencies import RunServiceDep
from app.error_handlers import problem_responses
from app.routes.disconnect import run_while_connected
from app.routes.media_types import CSV, NDJSON, require_content_type
from app.routes.paths import UPLOAD
from app.routes.runs import RUN_ERRORS
from app.schemas.results import RunResult
from app.schemas.runs import UploadQuery

router = APIRouter(tags=["runs"])

_HINT: Final = "with curl: -H 'Content-Type: text/csv' --data-binary @items.csv"

_BODY_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {
                "schema": {"type": "string"},
                "example": "item_id,value,offset\n1,0.5,7\n2,1.5,7\n",
            },
            NDJSON: {
                "schema": {"type": "string"},
                "example": '{"item_id": 1, "value": 0.5, "offset": 7}\n',
            },
        },
    }
}


@router.post(
    UPLOAD,
    operation_id="run_upload",
    summary="Run over an uploaded file",
    openapi_extra=_BODY_SCHEMA,
    responses=problem_responses(415, errors.BadRowError, *RUN_ERRORS),
)
async def run_upload(
    query: Annotated[UploadQuery, Query()], service: RunServiceDep, request: Request
) -> RunResult:
    """Execute the workload for the items of a CSV or NDJSON file, streamed from the body.

    The fields of a run's body are query fields here. A bad row is named by its line.
    """
    media_type = require_content_type(request, (CSV, NDJSON), _HINT)
    body_read = asyncio.Event()
    work = service.run_upload(query, media_type, _chunks(request, body_read))
    return await run_while_connected(request, work, body_read=body_read)


async def _chunks(request: Request, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise errors.RunCancelledError from None
    body_read.set()
