"""Recommendations: `GET /api/v1/tasks/recommendations`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from app import errors
from app.dependencies import RecommendationServiceDep, SettingsDep
from app.error_handlers import STORE_ERRORS, problem_responses
from app.routes.base_url import base_url_of
from app.routes.paths import TASKS
from app.schemas.recommendation import Recommendation, RecommendationQuery

router = APIRouter(prefix=TASKS, tags=["recommendations"])


@router.get(
    "/recommendations",
    operation_id="recommend",
    summary="Recommend how to run something",
    responses=problem_responses(
        errors.InvalidRequestError,
        errors.MissingScopeError,
        errors.TooBusyError,
        errors.NotReadyError,
        errors.WorkerCrashedError,
        errors.RunHostDiedError,
        *STORE_ERRORS,
    ),
)
async def recommend(
    query: Annotated[RecommendationQuery, Query()],
    service: RecommendationServiceDep,
    settings: SettingsDep,
    request: Request,
) -> Recommendation:
    """Predict all choices of strategy, kernel, workers and batch size from what was measured on
    this machine, and rank them. `kernel`, `workers`, `batch_size` and `io_concurrency` are chosen
    unless they are given.

    The first answer calibrates, which takes some seconds; `refresh` does it again.
    """
    return await service.recommend(query, base_url_of(request, settings))
