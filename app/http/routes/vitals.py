"""How the service was in the last minutes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from hotloop.app.http.dependencies import ServicesDep
from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.schemas.health import Vitals, VitalsQuery

router = APIRouter(prefix="/health", tags=["service"])


@router.get(
    "/vitals",
    operation_id="get_vitals",
    summary="Lag, memory and CPU of the last minutes",
    responses=problem_responses(),
)
async def get_vitals(services: ServicesDep, query: Annotated[VitalsQuery, Query()]) -> Vitals:
    """A sample every five seconds, ten minutes of them, taken only while somebody asks for them:
    sampling begins with the first request and stops when there was none for a minute.
    """
    return await services.vitals.read(query.after)
