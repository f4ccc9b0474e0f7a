"""Health of the service, for everybody."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from hotloop.app import errors
from hotloop.app.http.dependencies import StateDep
from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.schemas.health import Health, Readiness
from hotloop.app.version import VERSION

router = APIRouter(prefix="/health", tags=["service"])

_RETRY_SECONDS: Final = 1


@router.get(
    "",
    operation_id="get_health",
    summary="Does the process answer?",
    responses=problem_responses(),
)
async def get_health() -> Health:
    """Answers in milliseconds whatever runs: runs have processes of their own."""
    return Health(status="alive", version=VERSION)


@router.get(
    "/ready",
    operation_id="get_readiness",
    summary="Are runs taken?",
    responses=problem_responses(errors.NotReadyError),
)
async def get_readiness(state: StateDep) -> Readiness:
    """Run hosts warm, store usable, kernels loaded, and the server not about to stop; 503 names
    what is not so.
    """
    if state.stopping.is_set():
        raise errors.NotReadyError("the server is stopping; ask another", _RETRY_SECONDS)
    readiness = await state.services.health.ready()
    if not readiness.ready:
        missing = [
            f"{name}: {check.detail}" for name, check in readiness.checks.items() if not check.ready
        ]
        raise errors.NotReadyError("; ".join(missing), _RETRY_SECONDS)
    return readiness
