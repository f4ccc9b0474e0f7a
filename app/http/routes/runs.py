"""Routes of runs: synchronous, over an uploaded file, or in the background."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hotloop.app import errors
from hotloop.app.http import answers
from hotloop.app.http.access import ClientDep
from hotloop.app.http.answers import CSV, NDJSON, TASKS, accepted
from hotloop.app.http.dependencies import ServicesDep
from hotloop.app.http.openapi import RUN_ERRORS, SUBMIT_ERRORS, problem_responses
from hotloop.app.http.routes import bodies, headers
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.http.routes.headers import IdempotencyKeyDep, PrefersAsyncDep
from hotloop.app.http.routes.queries import UploadQueryDep
from hotloop.app.names import StrategyName
from hotloop.app.schemas.declared import example_row
from hotloop.app.schemas.options import DEFAULT_WORKLOAD
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest
from hotloop.app.schemas.tasks import AcceptedRun, TaskView
from hotloop.app.sources.arrow_rows import ARROW_TYPES, HOW_TO_INSTALL, has_pyarrow
from hotloop.app.sources.rows import media_types

router = APIRouter(prefix=TASKS)

RUN_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The run has completed.", "headers": answers.VARY_HEADER},
    202: answers.ACCEPTED_RUN,
}
"""OpenAPI of the answers of a run that are not errors."""


async def get_strategy(
    strategy: Annotated[
        str,
        Path(
            description="How batches are executed.",
            json_schema_extra={"enum": [name.value for name in StrategyName]},
            examples=["hybrid"],
        ),
    ],
) -> StrategyName:
    """Return the strategy. Raises a 404 that lists the strategies if the path has another name."""
    try:
        return StrategyName(strategy)
    except ValueError:
        choices = ", ".join(StrategyName)
        raise HTTPException(
            404, f'there is no strategy "{strategy[:60]}"; choose from {choices}'
        ) from None


StrategyDep = Annotated[StrategyName, Depends(get_strategy)]


_UPLOAD_HINT: Final = "with curl: -H 'Content-Type: text/csv' --data-binary @items.csv" + (
    "" if has_pyarrow() else f"; for Arrow and Parquet have the operator run {HOW_TO_INSTALL}"
)

_ROWS: Final = [example_row(DEFAULT_WORKLOAD, row) for row in range(2)]
_CSV_ROWS: Final = [
    ",".join(map(str, row)) + "\n" for row in (_ROWS[0], *(r.values() for r in _ROWS))
]

_UPLOAD_SCHEMA: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {
                "schema": {"type": "string"},
                "example": "".join(_CSV_ROWS),
            },
            NDJSON: {"schema": {"type": "string"}, "example": f"{json.dumps(_ROWS[0])}\n"},
            **{
                media_type: {"schema": {"type": "string", "format": "binary"}}
                for media_type in media_types()
                if media_type in ARROW_TYPES
            },
        },
    }
}


@router.post(
    answers.UPLOAD.removeprefix(TASKS),
    tags=["runs"],
    response_model=RunResult,
    summary="Run over an uploaded file",
    openapi_extra=_UPLOAD_SCHEMA,
    responses={**RUN_ANSWERS, **problem_responses(415, errors.BadRowError, *RUN_ERRORS)},
)
async def run_upload(
    idempotency_key: IdempotencyKeyDep,
    prefers_async: PrefersAsyncDep,
    query: UploadQueryDep,
    services: ServicesDep,
    client: ClientDep,
    request: Request,
    response: Response,
) -> RunResult | Response:
    """Execute the workload for the items of a file, streamed from the body: CSV, NDJSON, Arrow IPC
    or Parquet. The last two need pyarrow in the service.

    The fields of a run's body are query fields here. An error about a row names its line, or in
    Arrow and Parquet its number. With
    `Prefer: respond-async` the run becomes a background task once the file has arrived; so does a
    run whose estimate, once its rows are read, is over the service's limit; then `message` says
    why.
    """
    media_type = headers.require_content_type(request, media_types(), _UPLOAD_HINT)
    body_read = asyncio.Event()
    chunks = _chunks(request, body_read)
    if prefers_async:
        task = await services.background.submit_upload(
            query, query.strategy, media_type, chunks, idempotency_key, client.id
        )
        return accepted(request, task, as_preferred=True)
    response.headers["Vary"] = "Prefer"
    work = services.runs.run_upload(query, media_type, chunks, idempotency_key, client.id)
    found = await run_while_connected(request, work, body_read=body_read)
    return accepted(request, found) if isinstance(found, AcceptedRun) else found


async def _chunks(request: Request, body_read: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield the body, then set `body_read`. Raises RunCancelledError if the client leaves."""
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise errors.RunCancelledError from None
    body_read.set()


@router.post(
    "/background",
    tags=["background"],
    status_code=202,
    response_model=TaskView,
    summary="Run in the background",
    responses={
        202: answers.ACCEPTED,
        **problem_responses(415, errors.MemoryBudgetError, *SUBMIT_ERRORS),
    },
)
async def run_in_background(
    idempotency_key: IdempotencyKeyDep,
    body: bodies.BackgroundRequestDep,
    services: ServicesDep,
    client: ClientDep,
    request: Request,
    _: Annotated[bodies.NoQuery, Query()],
) -> Response:
    """Accept the task and answer at once with its id and an estimate.

    An accepted task is executed even if the service dies in between. If the answer was lost, repeat
    the request with the same `Idempotency-Key`: the task is accepted only once.
    """
    return accepted(request, await services.background.submit(body, idempotency_key, client.id))


@router.post(
    "/{strategy}",
    tags=["runs"],
    response_model=RunResult,
    summary="Run now and answer with the result",
    responses={**RUN_ANSWERS, **problem_responses(404, 415, *RUN_ERRORS)},
)
async def run_now(
    strategy: StrategyDep,
    idempotency_key: IdempotencyKeyDep,
    prefers_async: PrefersAsyncDep,
    body: bodies.RunRequestDep,
    services: ServicesDep,
    client: ClientDep,
    request: Request,
    response: Response,
    _: Annotated[bodies.NoQuery, Query()],
) -> RunResult | Response:
    """Execute the workload for all items and answer with measurements and the first five results.

    Send `{}` for the defaults. A client that disconnects cancels its run. With
    `Prefer: respond-async` the run becomes a background task; so does a run whose estimate is over
    the service's limit, and then `message` says why.
    """
    if prefers_async:
        asked = BackgroundRequest.of(body, strategy)
        task = await services.background.submit(asked, idempotency_key, client.id)
        return accepted(request, task, as_preferred=True)
    response.headers["Vary"] = "Prefer"
    work = services.runs.run(strategy, body, idempotency_key, client.id)
    found = await run_while_connected(request, work)
    return accepted(request, found) if isinstance(found, AcceptedRun) else found
