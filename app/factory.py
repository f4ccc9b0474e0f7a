"""The application, put together from its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

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

_OPEN_ROUTERS: Final = (service.router, pages.router)
"""Routers that need no credentials, because their answers hold no client's data."""

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

    app: FastAPI = FastAPIOffline(
        title="Hotloop",
        version=VERSION,
        description=openapi.DESCRIPTION,
        openapi_tags=openapi.TAGS,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
        # FastAPI's own spans contain queries; hotloop.app.http.guards.watch makes ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Both pages are in hotloop.app.http.routes.pages.
        docs_url=None,
        redoc_url=None,
        static_url=pages.STATIC_FILES,
    )
    app.state.gate = gate
    app.state.bodies = bodies
    app.add_middleware(BodyLimitMiddleware, settings=settings)
    app.add_middleware(BodyTimeMiddleware, settings=settings)
    _add_cors(app, settings)
    app.add_middleware(OriginGuard, settings=settings)
    install_error_handlers(app)
    known = [Depends(get_client)]
    refusals = openapi.documented_problems(*openapi.ACCESS_ERRORS)
    # First, as its requests are the shortest and the most.
    app.include_router(calls.calls_router, responses=refusals)
    for router in _OPEN_ROUTERS:
        app.include_router(router)
    app.include_router(
        service.metrics_router,
        dependencies=[] if settings.metrics_open else known,
        responses={} if settings.metrics_open else refusals,
    )
    for router in (service.vitals_router, *(module.router for module in _MODULES)):
        app.include_router(router, dependencies=known, responses=refusals)
    openapi.complete_openapi(app)
    _wrap(app, settings)
    return app


def _wrap(app: FastAPI, settings: Settings) -> None:
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
        inner = calls.ShortCalls(OpeningTurns(answering, EVENTS), settings)
        return WatchMiddleware(inner, note, is_stopping)

    app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]
