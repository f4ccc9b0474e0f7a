"""The application: the only place that knows every room."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.types import ASGIApp

from app.dependencies import AppState, Services
from app.error_handlers import install_error_handlers
from app.openapi import DESCRIPTION, TAGS, complete_openapi
from app.routes import (
    background,
    compare,
    dashboard,
    events,
    health,
    metrics,
    recommendations,
    results,
    root,
    runs,
    tasks,
    upload,
)
from app.routes.body_limit import BodyLimitMiddleware
from app.routes.watch import WatchMiddleware
from app.services import open_services
from app.settings import Settings
from app.version import VERSION

ServicesFactory = Callable[[Settings], AbstractAsyncContextManager[Services]]

# The order decides: `runs` takes any POST below /api/v1/tasks and `tasks` any DELETE.
_ROUTERS: Final = (
    root.router,
    dashboard.router,
    health.router,
    metrics.router,
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


def create_app(settings: Settings, services: ServicesFactory = open_services) -> FastAPI:
    """The application; it opens `services` when it starts and closes them when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            opened = await stack.enter_async_context(services(settings))
            app.state.shared = AppState(settings, opened)
            # A server that waits for the answers in progress before it comes here has to call
            # `begin_stop` first, as `app.server` does.
            stack.callback(begin_stop, app)
            yield

    app: FastAPI = FastAPIOffline(
        title="Hotloop",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        # FastAPI's own spans hold queries; app.routes.watch makes ours.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        # Otherwise the page asks a server on the internet to check the description.
        swagger_ui_parameters={"validatorUrl": None},
    )
    app.add_middleware(BodyLimitMiddleware, settings=settings)
    install_error_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    complete_openapi(app)
    _watch(app)
    return app


def _watch(app: FastAPI) -> None:
    """Every answer is seen, those to unforeseen errors too: they are made outside of whatever
    `add_middleware` adds.
    """
    build = app.build_middleware_stack

    def state() -> AppState | None:
        return getattr(app.state, "shared", None)

    def is_stopping() -> bool:
        return (shared := state()) is not None and shared.stopping.is_set()

    def note(route: str, method: str, status: int, seconds: float) -> None:
        if (shared := state()) is not None:
            shared.services.metrics.request_ended(route, method, status, seconds)

    def build_watched() -> ASGIApp:
        return WatchMiddleware(build(), note, is_stopping)

    app.build_middleware_stack = build_watched  # type: ignore[method-assign]
