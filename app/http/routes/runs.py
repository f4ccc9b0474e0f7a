"""Synchronous runs: `POST /api/v1/tasks/{strategy}`."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.exceptions import HTTPException

from hotloop.app import errors
from hotloop.app.http.access import ClientDep
from hotloop.app.http.dependencies import ServicesDep
from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.http.routes.accepted import ACCEPTED_RUN, SUBMIT_ERRORS, accepted, accepted_run
from hotloop.app.http.routes.disconnect import run_while_connected
from hotloop.app.http.routes.header_values import IdempotencyKeyDep
from hotloop.app.http.routes.paths import TASKS
from hotloop.app.http.routes.prefer import VARY_HEADER, PrefersAsyncDep
from hotloop.app.http.routes.run_body import RUN_BODY_SCHEMA, RunRequestDep
from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import RequestModel
from hotloop.app.schemas.results import RunResult
from hotloop.app.schemas.runs import BackgroundRequest
from hotloop.app.schemas.tasks import AcceptedRun

RUN_ERRORS: Final = (
    errors.EstimateTooLongError,
    errors.MemoryBudgetError,
    *SUBMIT_ERRORS,
    errors.RunTimeoutError,
    errors.RunCancelledError,
    errors.ErrorRateExceededError,
    errors.WorkerCrashedError,
    errors.RunHostDiedError,
)
"""How a run may end, however its items come, and whether it is in the background or not."""

RUN_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The run has completed.", "headers": VARY_HEADER},
    202: ACCEPTED_RUN,
}
"""The answers of a run that are not errors, for OpenAPI."""


def answer_of(result: RunResult | AcceptedRun) -> RunResult | Response:
    """The answer 202 for a run that became a background task, else the result."""
    return accepted_run(result) if isinstance(result, AcceptedRun) else result


router = APIRouter(prefix=TASKS, tags=["runs"])


class NoQuery(RequestModel):
    """A run has no query; one that is given was meant for the body."""


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
    """Raises a 404 that lists the strategies: an unknown one is a path that does not exist."""
    try:
        return StrategyName(strategy)
    except ValueError:
        choices = ", ".join(StrategyName)
        raise HTTPException(
            404, f'there is no strategy "{strategy[:60]}"; choose from {choices}'
        ) from None


StrategyDep = Annotated[StrategyName, Depends(get_strategy)]


@router.post(
    "/{strategy}",
    response_model=RunResult,
    operation_id="run_now",
    summary="Run now and answer with the result",
    openapi_extra=RUN_BODY_SCHEMA,
    responses={**RUN_ANSWERS, **problem_responses(404, 415, *RUN_ERRORS)},
)
async def run_now(
    strategy: StrategyDep,
    idempotency_key: IdempotencyKeyDep,
    prefers_async: PrefersAsyncDep,
    body: RunRequestDep,
    services: ServicesDep,
    client: ClientDep,
    request: Request,
    response: Response,
    _: Annotated[NoQuery, Query()],
) -> RunResult | Response:
    """Execute the workload for all items and answer with measurements and the first five results.

    Send `{}` for the defaults. A client that goes away cancels its run. With
    `Prefer: respond-async` the run becomes a background task; so does a run that is estimated
    beyond the service's limit, and `message` says why.
    """
    if prefers_async:
        asked = BackgroundRequest.of(body, strategy)
        task = await services.background.submit(asked, idempotency_key, client.id)
        return accepted(task, as_preferred=True)
    response.headers["Vary"] = "Prefer"
    work = services.runs.run(strategy, body, idempotency_key, client.id)
    return answer_of(await run_while_connected(request, work))
