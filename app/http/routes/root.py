"""`/`: what this service is."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from hotloop.app.http.error_handlers import problem_responses
from hotloop.app.http.links import TASKS, link_to
from hotloop.app.http.routes.media_types import HTML, JSON, best_media_type
from hotloop.app.schemas.root import ServiceIndex
from hotloop.app.version import VERSION

router = APIRouter(tags=["service"])

_LINKS: Final = {
    "dashboard": "/dashboard",
    "tasks": TASKS,
    "kernels": f"{TASKS}/kernels",
    "results": f"{TASKS}/results",
    "health": "/health",
    "ready": "/health/ready",
    "metrics": "/metrics",
    "docs": "/docs",
    "redoc": "/redoc",
    "openapi": "/openapi.json",
}


@router.get(
    "/",
    response_model=ServiceIndex,
    operation_id="get_index",
    summary="What this service is",
    responses={
        307: {"description": "For a browser (`Accept: text/html`): to the dashboard."},
        **problem_responses(),
    },
)
async def get_index(request: Request) -> ServiceIndex | Response:
    """Name, version and links. A browser is sent to the dashboard."""
    if best_media_type(request.headers.get("accept"), (JSON, HTML)) == HTML:
        return RedirectResponse(link_to(request, "/dashboard"), headers={"Vary": "Accept"})
    return ServiceIndex(
        name="hotloop",
        version=VERSION,
        description="CPU-heavy work behind FastAPI: any strategy, any kernel, measured.",
        links={name: link_to(request, path) for name, path in _LINKS.items()},
    )
