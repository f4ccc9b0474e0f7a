"""Routes of comparisons, which measure strategies, and of recommendations, which predict them."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError

from hotloop.app import errors
from hotloop.app.database.threads import in_store_thread
from hotloop.app.http import answers
from hotloop.app.http.access import ClientDep
from hotloop.app.http.answers import TASKS, VARY_HEADER
from hotloop.app.http.dependencies import ServicesDep, StateDep, is_own
from hotloop.app.http.openapi import STORE_ERRORS, SUBMIT_ERRORS, problem_responses
from hotloop.app.http.routes import bodies
from hotloop.app.http.routes.disconnect import run_until_stop, run_while_connected
from hotloop.app.http.routes.headers import IdempotencyKeyDep, PrefersAsyncDep
from hotloop.app.http.routes.queries import RecommendationQueryDep
from hotloop.app.schemas.comparison import CompareQuery, CompareRequest, Comparison
from hotloop.app.schemas.recommendation import CalibrationState, Recommendation
from hotloop.app.security.clients import Client
from hotloop.app.tasks.store import TaskStore
from hotloop.app.wording import RULE

router = APIRouter(prefix=TASKS)

CALIBRATION: Final = f"{TASKS}/calibration"

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The comparison has completed.", "headers": VARY_HEADER},
    202: answers.ACCEPTED_AS_PREFERRED,
}

_CALIBRATING: Final[dict[str, Any]] = {
    "description": "A calibration is in progress.",
    "model": CalibrationState,
    "headers": {
        "Location": {
            "description": "Path of its state.",
            "schema": {"type": "string", "format": "uri-reference"},
            "example": CALIBRATION,
        }
    },
}


async def get_compare_request(
    query: Annotated[CompareQuery, Query()],
    body: Annotated[CompareRequest, Depends(bodies.read_compare_request)],
) -> CompareRequest:
    """Return the body with the query's fields added. Raises RequestValidationError for a field that
    is in both.
    """
    given = query.model_dump(exclude_none=True)
    for name in given:
        if name in body.model_fields_set:
            raise _refused(name, "is in the body, too; leave it out of one of the two")
    if "items_count" in given and body.items is not None:
        raise _refused("items_count", "cannot be given together with items; leave it out")
    return body.model_copy(update=given)


def _refused(name: str, text: str) -> RequestValidationError:
    return RequestValidationError(
        [{"type": RULE, "loc": ("query", name), "msg": text, "input": None}]
    )


@router.post(
    "/compare",
    response_model=Comparison,
    tags=["comparisons"],
    summary="Compare strategies × kernels",
    responses={
        **_ANSWERS,
        **problem_responses(
            415,
            errors.EstimateTooLongError,
            *SUBMIT_ERRORS,
            errors.RunCancelledError,
            errors.OutputsDifferError,
            errors.NothingMeasuredError,
            errors.RunHostDiedError,
        ),
    },
)
async def compare(
    idempotency_key: IdempotencyKeyDep,
    prefers_async: PrefersAsyncDep,
    asked: Annotated[CompareRequest, Depends(get_compare_request)],
    client: ClientDep,
    services: ServicesDep,
    request: Request,
    response: Response,
) -> Comparison | Response:
    """Measure every strategy on every kernel, several times in shuffled order, and name the fastest
    if the measurements show one.

    The body may be left out. A cell that is too slow for the budget is measured on fewer items and
    marked as projected. A client that disconnects cancels its comparison. With
    `Prefer: respond-async` the comparison becomes a background task, whose status shows the
    measurements so far.
    """
    comparisons = services.comparisons
    if prefers_async:
        task = await comparisons.submit(asked, idempotency_key, client.id)
        return answers.accepted(request, task, as_preferred=True)
    response.headers["Vary"] = "Prefer"
    work = comparisons.compare(asked, client.id)
    return answers.linked_comparison(request, await run_while_connected(request, work))


@router.get(
    "/recommendations",
    tags=["recommendations"],
    summary="Recommend how to run a request",
    responses=problem_responses(
        errors.InvalidRequestError,
        errors.NotReadyError,
        *STORE_ERRORS,
    ),
)
async def recommend(
    query: RecommendationQueryDep,
    client: ClientDep,
    state: StateDep,
    request: Request,
) -> Recommendation:
    """Predict all choices of strategy, kernel, workers and batch size from this machine's
    calibration, and rank them. `kernel`, `workers`, `batch_size` and `io_concurrency` are kept if
    you give them; the rest is chosen for you.

    The answer comes at once. Until the machine is calibrated, it is based on typical figures
    (`calibrated: false`, with wide intervals) and starts a calibration, which takes some seconds of
    a run host; `wait=true` waits for its end.
    """
    services = state.services
    asked = services.recommendations.recommend(query)
    if query.wait:
        found = await run_while_connected(request, run_until_stop(asked, state.stopping))
    else:
        found = await asked
    if not client.sees_all:
        found = await in_store_thread(_without_others, services.store, client, found)
    return answers.with_command(request, found)


def _without_others(store: TaskStore, client: Client, found: Recommendation) -> Recommendation:
    """Leave out the last runs of other clients, which still count in the figures. Blocks."""
    error = found.prediction_error
    last = [one for one in error.last if is_own(store, client, one.task_id)]
    return found.model_copy(update={"prediction_error": error.model_copy(update={"last": last})})


@router.post(
    "/calibration",
    status_code=202,
    tags=["recommendations"],
    summary="Calibrate the machine again",
    responses={
        202: _CALIBRATING,
        **problem_responses(errors.RateLimitedError, errors.NotReadyError),
    },
)
async def calibrate(
    services: ServicesDep,
    request: Request,
    response: Response,
    _: Annotated[bodies.NoQuery, Query()],
) -> CalibrationState:
    """Begin to measure the constants of the predictions, and answer at once.

    The calibration waits for its turn among the runs and takes a run host for some seconds; with
    a single run host, runs wait for it. While a calibration is in progress, requests are answered
    with its state.
    """
    response.headers["Location"] = answers.link_to(request, CALIBRATION)
    return await services.recommendations.calibrate()


@router.get(
    "/calibration",
    tags=["recommendations"],
    summary="Show the state of the calibration",
    responses=problem_responses(errors.NotReadyError),
)
async def get_calibration(
    services: ServicesDep, _: Annotated[bodies.NoQuery, Query()]
) -> CalibrationState:
    """Return the state of the last calibration, with its progress while it measures.

    If several processes answer, each knows the progress of its own calibration only; all of them
    use the result.
    """
    return await services.recommendations.calibration()
