"""Routes about the service itself: index, health, metrics, and sessions of browsers."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from hotloop.app import errors
from hotloop.app.http.access import GateDep, check_page, count
from hotloop.app.http.answers import HTML, JSON, SESSION, TASKS, link_to
from hotloop.app.http.dependencies import ServicesDep, StateDep
from hotloop.app.http.openapi import problem_responses
from hotloop.app.http.routes.headers import best_media_type
from hotloop.app.schemas.service import (
    Health,
    Readiness,
    ServiceIndex,
    SessionView,
    SignIn,
    Vitals,
    VitalsQuery,
)
from hotloop.app.security.clients import ANYONE, COOKIE, SESSION_SECONDS, Client, Session
from hotloop.app.version import VERSION

router = APIRouter(tags=["service"])
"""Routes that need no credentials."""

health_router = APIRouter(tags=["service"])
"""Routes for probes, which need no credentials; nodes answer them, too."""

vitals_router = APIRouter(tags=["service"])
"""The route that shows clients the figures of the last minutes."""

metrics_router = APIRouter(tags=["service"])
"""The route that needs no credentials if the setting `metrics_open` is on."""

_RETRY_SECONDS: Final = 1

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

METRICS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

_NOBODY: Final = SessionView(name=None, scope=None, expires_at=None)


@router.get(
    "/",
    response_model=ServiceIndex,
    summary="Name, version and links of the service",
    responses={
        307: {"description": "For a browser (`Accept: text/html`): to the dashboard."},
        **problem_responses(),
    },
)
async def get_index(request: Request) -> ServiceIndex | Response:
    """Return name, version and links. A browser is redirected to the dashboard."""
    if best_media_type(request.headers.get("accept"), (JSON, HTML)) == HTML:
        return RedirectResponse(link_to(request, "/dashboard"), headers={"Vary": "Accept"})
    return ServiceIndex(
        name="hotloop",
        version=VERSION,
        description="CPU-heavy work behind FastAPI: any strategy, any kernel, measured.",
        links={name: link_to(request, path) for name, path in _LINKS.items()},
    )


@health_router.get("/health", summary="Does the process answer?", responses=problem_responses())
async def get_health() -> Health:
    """Answers in milliseconds at any load, because runs have processes of their own."""
    return Health(status="alive", version=VERSION)


@health_router.get(
    "/health/ready", summary="Are runs taken?", responses=problem_responses(errors.NotReadyError)
)
async def get_readiness(state: StateDep) -> Readiness:
    """Check that run hosts are warm, the store is usable, the kernels are loaded and the server is
    not stopping; 503 says what is missing.
    """
    if state.stopping.is_set():
        raise errors.NotReadyError("the server is stopping; ask another one", _RETRY_SECONDS)
    readiness = await state.services.health.ready()
    if not readiness.ready:
        missing = [
            f"{name}: {check.detail}" for name, check in readiness.checks.items() if not check.ready
        ]
        raise errors.NotReadyError("; ".join(missing), _RETRY_SECONDS)
    return readiness


@vitals_router.get(
    "/health/vitals",
    summary="Lag, memory and CPU of the last minutes",
    responses=problem_responses(),
)
async def get_vitals(services: ServicesDep, query: Annotated[VitalsQuery, Query()]) -> Vitals:
    """Return a sample for every five of the last 600 seconds. Sampling begins with the first
    request and stops after a minute without one.
    """
    return await services.vitals.read(query.after)


@metrics_router.get(
    "/metrics",
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
    """Return metrics of requests, runs, items, queues, run hosts, the store and sources, counted
    over all processes that answer on this port since the service started.
    """
    return Response(await asyncio.to_thread(services.metrics.text), media_type=METRICS_TEXT)


def _view(client: Client, session: Session | None) -> SessionView:
    expires = None if session is None else session.expires_at
    return SessionView(name=client.name, scope=client.scope.value, expires_at=expires)


@router.get(SESSION, summary="Who is signed in?", responses=problem_responses())
async def get_session(request: Request, gate: GateDep) -> SessionView:
    """Tell a page whether it must ask for a key. Only the cookie counts."""
    if gate.is_open:
        return _view(ANYONE, None)
    try:
        session = gate.sessions.find(request.cookies.get(COOKIE, ""))
    except errors.UnauthorizedError:
        return _NOBODY
    return _view(session.key.client, session)


@router.post(
    SESSION,
    summary="Sign in",
    responses=problem_responses(
        400, errors.PayloadTooLargeError, errors.UnauthorizedError, errors.RateLimitedError
    ),
)
async def sign_in(
    asked: SignIn, request: Request, response: Response, gate: GateDep
) -> SessionView:
    """Exchange a key for a cookie that replaces it for eight hours, or until the key is removed.
    Scripts cannot read the cookie, and pages of other sites cannot make a browser send it.
    """
    if gate.is_open:
        return _view(ANYONE, None)
    await count(request, gate, None)
    session = gate.sessions.begin(gate.keys.find(asked.key))
    response.set_cookie(
        COOKIE,
        gate.sessions.token_of(session),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return _view(session.key.client, session)


@router.delete(SESSION, summary="Sign out", responses=problem_responses(errors.ForbiddenError))
async def sign_out(request: Request, response: Response, gate: GateDep) -> SessionView:
    """Make the browser delete the cookie. A copy of it stays valid until it expires."""
    if COOKIE in request.cookies:
        check_page(request)
    response.delete_cookie(
        COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return _view(ANYONE, None) if gate.is_open else _NOBODY
