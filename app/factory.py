"""The application, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import Depends, FastAPI, HTTPException
from fastapi.telemetry import TelemetryConfig
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from hotloop.app.http import openapi
from hotloop.app.http.access import get_client
from hotloop.app.http.answers import EVENTS
from hotloop.app.http.dependencies import AppState
from hotloop.app.http.error_handlers import install_error_handlers
from hotloop.app.http.guards.answers import AnswerHeaders, HeadAsGet
from hotloop.app.http.guards.requests import BodyLimitMiddleware, BodyTimeMiddleware, OriginGuard
from hotloop.app.http.guards.watch import OpeningTurns, WatchMiddleware
from hotloop.app.http.routes import calls, compare, events, pages, runs, service, tasks
from hotloop.app.http.routes.bodies import BodyReader
from hotloop.app.security.gate import Gate
from hotloop.app.settings.settings import Settings
from hotloop.app.version import VERSION
from hotloop.app.wiring import Services, open_services

_CORS_REQUEST_HEADERS: Final = [
    *("Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Prefer", "X-API-Key")
]
_CORS_ANSWER_HEADERS: Final = [
    *("Content-Disposition", "Link", "Location", "Preference-Applied", "RateLimit"),
    *("RateLimit-Policy", "Retry-After"),
]
"""Headers that pages of other origins may send and read, besides the ones always allowed."""

ServicesFactory = Callable[[Settings], AbstractAsyncContextManager[Services]]

_OPEN_ROUTERS: Final = (service.router, service.health_router, pages.router)
"""Routers that need no credentials, because their answers hold no client's data."""

_KNOWN: Final = [Depends(get_client)]

# FastAPI's own spans contain queries; hotloop.app.http.guards.watch makes ours.
_NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}

# The order counts: `runs` takes any POST to one name below /api/v1/tasks, and `tasks` any DELETE.
_MODULES: Final = (events, compare, runs, tasks, calls)


def begin_stop(app: FastAPI) -> None:
    """End the event streams and other endless answers. Call it on the application's event loop."""
    shared: AppState = app.state.shared
    shared.stopping.set()


def _add_cors(app: FastAPI, settings: Settings) -> None:
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_ANSWER_HEADERS,
        )


def create_app(settings: Settings, services: ServicesFactory = open_services) -> FastAPI:
    """Make the application, which opens `services` when it starts and closes them when it ends."""
    app: FastAPI = FastAPIOffline(
        title="Hotloop",
        version=VERSION,
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        generate_unique_id_function=lambda route: route.name,
        telemetry=_NO_TELEMETRY,
        # Both pages are in hotloop.app.http.routes.pages.
        docs_url=None,
        redoc_url=None,
        static_url=pages.STATIC_FILES,
    )
    _open_and_guard(app, settings, services)
    refusals = openapi.documented_problems(*openapi.ACCESS_ERRORS)
    # First, as its requests are the shortest and the most.
    app.include_router(calls.calls_router, responses=refusals)
    for router in _OPEN_ROUTERS:
        app.include_router(router)
    _include_metrics(app, settings)
    for router in (service.vitals_router, *(module.router for module in _MODULES)):
        app.include_router(router, dependencies=_KNOWN, responses=refusals)
    openapi.complete_openapi(app)
    _wrap(app, lambda inner: calls.ShortCalls(OpeningTurns(inner, EVENTS), settings))
    return app


def create_node_app(settings: Settings, services: ServicesFactory) -> FastAPI:
    """Make the application of a node: health and metrics, under the rules of an API process."""
    app = FastAPI(openapi_url=None, telemetry=_NO_TELEMETRY)
    _open_and_guard(app, settings, services)
    app.include_router(service.health_router)
    _include_metrics(app, settings)
    app.router.default = _refuse_path
    _wrap(app, lambda inner: inner)
    return app


async def _refuse_path(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404, "a node answers only /health, /health/ready and /metrics")


def _open_and_guard(app: FastAPI, settings: Settings, services: ServicesFactory) -> None:
    """Have the application open `services` when it starts, and guard all of its routes."""
    gate = Gate(settings)
    bodies = BodyReader()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(gate.close)
            stack.push_async_callback(bodies.close)
            opened = await stack.enter_async_context(services(settings))
            app.state.shared = AppState(settings, opened)
            # A server that waits for open answers before it gets here must call `begin_stop`
            # first, as `hotloop.app.serving.server` does.
            stack.callback(begin_stop, app)
            yield

    app.router.lifespan_context = lifespan
    app.state.gate = gate
    app.state.bodies = bodies
    app.add_middleware(BodyLimitMiddleware, settings=settings)
    app.add_middleware(BodyTimeMiddleware, settings=settings)
    _add_cors(app, settings)
    app.add_middleware(OriginGuard, settings=settings)
    install_error_handlers(app)


def _include_metrics(app: FastAPI, settings: Settings) -> None:
    refusals = openapi.documented_problems(*openapi.ACCESS_ERRORS)
    app.include_router(
        service.metrics_router,
        dependencies=[] if settings.metrics_open else _KNOWN,
        responses={} if settings.metrics_open else refusals,
    )


def _wrap(app: FastAPI, complete: Callable[[ASGIApp], ASGIApp]) -> None:
    """Wrap the whole application, so that answers to unexpected errors are logged and completed,
    too: Starlette makes them outside of all middleware from `add_middleware`.
    """
    build = app.build_middleware_stack

    def state() -> AppState | None:
        return getattr(app.state, "shared", None)

    def is_stopping() -> bool:
        return (shared := state()) is not None and shared.stopping.is_set()

    def note(route: str, method: str, status: int, seconds: float) -> None:
        if (shared := state()) is not None:
            shared.services.metrics.request_ended(route, method, status, seconds)

    def build_wrapped() -> ASGIApp:
        answering = HeadAsGet(AnswerHeaders(build()))
        return WatchMiddleware(complete(answering), note, is_stopping)

    app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]
