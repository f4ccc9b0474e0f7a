"""Background tasks: accepted now, executed later."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from hotloop.app import errors
from hotloop.app.http.access import ClientDep
from hotloop.app.http.dependencies import OwnTaskDep, ServicesDep
from hotloop.app.http.error_handlers import STORE_ERRORS, problem_responses
from hotloop.app.http.routes.accepted import ACCEPTED, SUBMIT_ERRORS, accepted
from hotloop.app.http.routes.header_values import IdempotencyKeyDep
from hotloop.app.http.routes.paths import TASKS
from hotloop.app.http.routes.run_body import BACKGROUND_BODY_SCHEMA, BackgroundRequestDep
from hotloop.app.http.routes.runs import NoQuery
from hotloop.app.schemas.tasks import TaskView

router = APIRouter(prefix=TASKS, tags=["background"])


@router.post(
    "/background",
    status_code=202,
    response_model=TaskView,
    operation_id="run_in_background",
    summary="Run in the background",
    openapi_extra=BACKGROUND_BODY_SCHEMA,
    responses={202: ACCEPTED, **problem_responses(415, errors.MemoryBudgetError, *SUBMIT_ERRORS)},
)
async def run_in_background(
    idempotency_key: IdempotencyKeyDep,
    body: BackgroundRequestDep,
    services: ServicesDep,
    client: ClientDep,
    _: Annotated[NoQuery, Query()],
) -> Response:
    """Accept the task and answer at once with its id and an estimate.

    An accepted task is executed even when the service dies in between. A client that repeats a
    request, because the answer was lost, sends the same `Idempotency-Key` with it: the task is
    accepted once.
    """
    return accepted(await services.background.submit(body, idempotency_key, client.id))


@router.post(
    "/{task_id}/resume",
    status_code=202,
    response_model=TaskView,
    operation_id="resume_task",
    summary="Take a task up again",
    responses={
        202: ACCEPTED,
        **problem_responses(
            errors.TaskNotFoundError,
            errors.TaskConflictError,
            errors.RateLimitedError,
            errors.ClientLimitError,
            errors.ClientStorageError,
            errors.TooBusyError,
            errors.NotReadyError,
            *STORE_ERRORS,
        ),
    },
)
async def resume_task(task_id: OwnTaskDep, services: ServicesDep) -> Response:
    """Go on with a failed or cancelled task where it ended: what was finished is kept.

    409 for a task that is neither.
    """
    return accepted(await services.background.resume(task_id))
