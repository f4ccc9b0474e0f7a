"""What the service counts, for Prometheus."""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import APIRouter, Response

from hotloop.app.http.dependencies import ServicesDep
from hotloop.app.http.error_handlers import problem_responses

router = APIRouter(tags=["service"])

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Counters for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "The text exposition format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **problem_responses(),
    },
)
async def get_metrics(services: ServicesDep) -> Response:
    """Requests, runs, items, queues, run hosts, the store, and the sources that runs use: of all
    processes that answer on this port, since the service started.
    """
    return Response(await asyncio.to_thread(services.metrics.text), media_type=TEXT)
