"""Runs over a file of items: `POST /api/v1/tasks/upload`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from hotloop.app import errors
from hotloop.app.http.access import ClientDep
from hotloop.app.http.dependencies import ServicesDep
from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.http.routes.accepted import accepted
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.http.routes.header_values import IdempotencyKeyDep
from hotloop.app.http.routes.media_types import CSV, NDJSON, require_content_type
from hotloop.app.http.routes.paths import UPLOAD
from hotloop.app.http.routes.prefer import PrefersAsyncDep
from hotloop.app.http.routes.runs import RUN_ANSWERS, RUN_ERRORS, answer_of
from hotloop.app.schemas.declared import example_row
from hotloop.app.schemas.options import DEFAULT_WORKLOAD
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import UploadQuery

router = APIRouter(tags=["runs"])

_HINT: Final = "with curl: -H 'Content-Type: text/csv' --data-binary @items.csv"

_ROWS: Final = [example_row(DEFAULT_WORKLOAD, row) for row in range(2)]
_CSV_ROWS: Final = [",".join(map(str, row)) for row in (_ROWS[0], *(r.values() for r in _ROWS))]

_BODY_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {
                "schema": {"type": "string"},
                "example": "".join(
                    f"{','.join(map(str, row))}\n"
                    for row in (_ROWS[0], *(r.values() for r in _ROWS))
                ),
            },
            NDJSON: {
                "schema": {"type": "string"},
                "example": f"{json.dumps(_ROWS[0])}\n",
            },
        },
    }
}


@router.post(
    UPLOAD,
    response_model=RunResult,
    operation_id="run_upload",
    summary="Run over an uploaded file",
    openapi_extra=_BODY_SCHEMA,
    responses={**RUN_ANSWERS, **problem_responses(415, errors.BadRowError, *RUN_ERRORS)},
)
async def run_upload(
    idempotency_key: IdempotencyKeyDep,
    prefers_async: PrefersAsyncDep,
    query: Annotated[UploadQuery, Query()],
    services: ServicesDep,
    client: ClientDep,
    request: Request,
    response: Response,
) -> RunResult | Response:
    """Execute the workload for the items of a CSV or NDJSON file, streamed from the body.

    The fields of a run's body are query fields here. A bad row is named by its line. With
    `Prefer: respond-async` the run becomes a background task once the file has arrived; so does a
    run that is estimated beyond the service's limit once its rows were read, and `message` says
    why.
    """
    media_type = require_content_type(request, (CSV, NDJSON), _HINT)
    body_read = asyncio.Event()
    chunks = _chunks(request, body_read)
    if prefers_async:
        task = await services.background.submit_upload(
            query, query.strategy, media_type, chunks, idempotency_key, client.id
        )
        return accepted(task, as_preferred=True)
    response.headers["Vary"] = "Prefer"
    work = services.runs.run_upload(query, media_type, chunks, idempotency_key, client.id)
    return answer_of(await run_while_connected(request, work, body_read=body_read))


async def _chunks(request: Request, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise errors.RunCancelledError from None
    body_read.set()
