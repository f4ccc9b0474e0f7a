"""Synchronous runs: `POST /api/v1/tasks/{strategy}`."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.exceptions import HTTPException

from app import errors
from app.dependencies import RunServiceDep
from app.error_handlers import problem_responses
from app.names import StrategyName
from app.routes.disconnect import run_while_connected
from app.routes.paths import TASKS
from app.routes.run_body import RUN_BODY_SCHEMA, RunRequestDep
from app.schemas.base import RequestModel
from app.schemas.results import RunResult

RUN_ERRORS: Final = (
    errors.EstimateTooLongError,
    errors.PayloadTooLargeError,
    errors.TooBusyError,
    errors.NotReadyError,
    errors.StoreError,
    errors.RunTimeoutError,
    errors.RunCancelledError,
    errors.ErrorRateExceededError,
    errors.WorkerCrashedError,
    errors.RunHostDiedError,
)
"""How a run may end, however its items come."""

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
    operation_id="run_now",
    summary="Run now and answer with the result",
    openapi_extra=RUN_BODY_SCHEMA,
    responses=problem_responses(404, 415, *RUN_ERRORS),
)
async def run_now(
    strategy: StrategyDep,
    body: RunRequestDep,
    service: RunServiceDep,
    request: Request,
    _: Annotated[NoQuery, Query()],
) -> RunResult:
    """Execute the workload for all items and answer with measurements and the first five results.

    Send `{}` for the defaults. A client that goes away cancels its run.
    """
    return await run_while_connected(request, service.run(strategy, body))
