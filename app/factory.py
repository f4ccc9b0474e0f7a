"""The application: the only place that knows every room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import Depends, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from hotloop.app.http.access import get_client
from hotloop.app.http.dependencies import AppState
from hotloop.app.http.error_handlers import (
    ACCESS_ERRORS,
    documented_problems,
    install_error_handlers,
)
from hotloop.app.http.guards.body_time import BodyTimeMiddleware
from hotloop.app.http.guards.head import HeadAsGet
from hotloop.app.http.guards.headers import AnswerHeaders
from hotloop.app.http.guards.origins import OriginGuard
from hotloop.app.http.guards.turns import OpeningTurns
from hotloop.app.http.openapi import DESCRIPTION, TAGS, complete_openapi
from hotloop.app.http.routes import (
    background,
    compare,
    dashboard,
    documentation,
    events,
    health,
    metrics,
    recommendations,
    results,
    root,
    runs,
    session,
    tasks,
    upload,
    vitals,
)
from hotloop.app.http.routes.body_limit import BodyLimitMiddleware
from hotloop.app.http.routes.body_reader import BodyReader
from hotloop.app.http.routes.paths import EVENTS
from hotloop.app.http.routes.watch import WatchMiddleware
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
"""What pages of other origins may send and read, beyond what browsers allow anyway."""

ServicesFactory = Callable[[Settings], AbstractAsyncContextManager[Services]]

_OPEN_ROUTERS: Final = (
    root.router,
    dashboard.router,
    documentation.router,
    health.router,
    session.router,
)
"""For everybody: nothing in them is anybody's."""

# The order decides: `runs` takes any POST below /api/v1/tasks and `tasks` any DELETE.
_ROUTERS: Final = (
    vitals.router,
    upload.router,
    results.router,
    events.router,
    background.router,
    compare.router,
    recommendations.router,
    runs.router,
    tasks.router,
)


def begin_stop(app: FastAPI) -> None:
    """Have the answers end that would go on for ever; to be called on the application's loop."""
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
    """The application; it opens `services` when it starts and closes them when it ends."""

    gate = Gate(settings)
    bodies = BodyReader()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(gate.close)
            stack.push_async_callback(bodies.close)
            opened = await stack.enter_async_context(services(settings))
            app.state.shared = AppState(settings, opened)
            # A server that waits for the answers in progress before it comes here has to call
            # `begin_stop` first, as `hotloop.app.serving.server` does.
            stack.callback(begin_stop, app)
            yield

    app: FastAPI = FastAPIOffline(
        title="Hotloop",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        # FastAPI's own spans hold queries; hotloop.app.http.routes.watch makes ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Both pages are in hotloop.app.http.routes.documentation.
        docs_url=None,
        redoc_url=None,
        static_url=documentation.FILES,
    )
    app.state.gate = gate
    app.state.bodies = bodies
    app.add_middleware(BodyLimitMiddleware, settings=settings)
    app.add_middleware(BodyTimeMiddleware, settings=settings)
    _add_cors(app, settings)
    app.add_middleware(OriginGuard, settings=settings)
    install_error_handlers(app)
    for router in _OPEN_ROUTERS:
        app.include_router(router)
    known = [Depends(get_client)]
    app.include_router(
        metrics.router,
        dependencies=[] if settings.metrics_open else known,
        responses={} if settings.metrics_open else documented_problems(*ACCESS_ERRORS),
    )
    for router in _ROUTERS:
        app.include_router(
            router, dependencies=known, responses=documented_problems(*ACCESS_ERRORS)
        )
    complete_openapi(app)
    _wrap(app)
    return app


def _wrap(app: FastAPI) -> None:
    """Every answer is seen and completed, those to unforeseen errors too: they are made outside of
    whatever `add_middleware` adds.
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
        return WatchMiddleware(OpeningTurns(answering, EVENTS), note, is_stopping)

    app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]
