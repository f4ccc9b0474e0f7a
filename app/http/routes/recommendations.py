"""Recommendations, and the calibration that they rest on."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response

from hotloop.app import errors
from hotloop.app.http.access import ClientDep
from hotloop.app.http.dependencies import ServicesDep, StateDep, is_own
from hotloop.app.http.error_handlers import STORE_ERRORS, problem_responses
from hotloop.app.http.root_path import link_to
from hotloop.app.http.routes.base_url import base_url_of
from hotloop.app.http.routes.disconnect import run_until_stop, run_while_connected
from hotloop.app.http.routes.paths import TASKS
from hotloop.app.http.routes.runs import NoQuery
from hotloop.app.schemas.calibration import CalibrationState
from hotloop.app.schemas.recommendation import Recommendation, RecommendationQuery
from hotloop.app.security.clients import Client
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread

CALIBRATION: Final = f"{TASKS}/calibration"

router = APIRouter(prefix=TASKS, tags=["recommendations"])


@router.get(
    "/recommendations",
    operation_id="recommend",
    summary="Recommend how to run something",
    responses=problem_responses(
        errors.InvalidRequestError,
        errors.NotReadyError,
        *STORE_ERRORS,
    ),
)
async def recommend(
    query: Annotated[RecommendationQuery, Query()],
    client: ClientDep,
    state: StateDep,
    request: Request,
) -> Recommendation:
    """Predict all choices of strategy, kernel, workers and batch size from what was measured on
    this machine, and rank them. `kernel`, `workers`, `batch_size` and `io_concurrency` are chosen
    unless they are given.

    The answer comes at once. Before the machine is calibrated, it rests on typical figures
    (`calibrated: false`, with wide intervals) and calibrating begins behind it, which takes some
    seconds of a run host; `wait=true` waits for that.
    """
    services = state.services
    asked = services.recommendations.recommend(query, base_url_of(request, state.settings))
    if query.wait:
        found = await run_while_connected(request, run_until_stop(asked, state.stopping))
    else:
        found = await asked
    if client.sees_all:
        return found
    return await in_store_thread(_without_others, services.store, client, found)


def _without_others(store: TaskStore, client: Client, found: Recommendation) -> Recommendation:
    """Leave out the last runs of other clients, which still count in the figures. Blocks."""
    error = found.prediction_error
    last = [one for one in error.last if is_own(store, client, one.task_id)]
    return found.model_copy(update={"prediction_error": error.model_copy(update={"last": last})})


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


@router.post(
    "/calibration",
    status_code=202,
    operation_id="calibrate",
    summary="Calibrate the machine anew",
    responses={
        202: _CALIBRATING,
        **problem_responses(errors.RateLimitedError, errors.NotReadyError),
    },
)
async def calibrate(
    services: ServicesDep, response: Response, _: Annotated[NoQuery, Query()]
) -> CalibrationState:
    """Begin to measure what predictions rest on, and answer at once.

    It takes a run host for some seconds, when its turn has come among the runs that wait; with a
    single run host, runs wait so long. A request that comes while a calibration is in progress is
    answered with that one.
    """
    response.headers["Location"] = link_to(CALIBRATION)
    return await services.recommendations.calibrate()


@router.get(
    "/calibration",
    operation_id="get_calibration",
    summary="See how calibrating stands",
    responses=problem_responses(errors.NotReadyError),
)
async def get_calibration(
    services: ServicesDep, _: Annotated[NoQuery, Query()]
) -> CalibrationState:
    """The last calibration, with its progress while it measures.

    Where several processes answer, each knows how far its own one is; all of them find what was
    measured.
    """
    return await services.recommendations.calibration()
