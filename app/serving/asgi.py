"""The service as one ASGI application, `main:app`, for any server and for mounting in another one.

`python main.py` does not come here: `app.serving.server` knows more of its connections and its end.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # Everything else of the service is imported when it starts: `import main` takes no time, reads
    # no settings and starts nothing.
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send

    from hotloop.app.serving.outer_server import OuterServer
    from hotloop.app.settings.settings import Settings

logger = logging.getLogger(__name__)

_NOT_STARTED: Final = "the service cannot start now; its log says what is wrong"


class LazyApplication:
    """An ASGI application that reads the settings from the environment when it starts: with the
    server's lifespan, else with the first request.
    """

    def __init__(self) -> None:
        self._service: _Service | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        from hotloop.app.errors import StoreUnavailableError
        from hotloop.app.settings.settings import SettingsError

        try:
            service = await self._started(is_mounted=True)
        except (SettingsError, StoreUnavailableError) as error:
            logger.error("%s", error)
            await _refuse(scope, receive, send)
            return
        await service.answer(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, outer: object = None) -> AsyncIterator[None]:
        """Start and end the service with an application that it is mounted in:
        `FastAPI(lifespan=main.app.lifespan)`, or within that application's own lifespan. Without
        it, the service starts with its first request, and ends with the event loop. Raises
        SettingsError.
        """
        service = await self._started(is_mounted=True)
        try:
            yield
        finally:
            await service.close()

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        from hotloop.app.errors import StoreUnavailableError
        from hotloop.app.settings.settings import SettingsError

        await receive()
        try:
            service = await self._started(is_mounted=False)
        except (SettingsError, StoreUnavailableError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        except Exception:
            await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await service.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _started(self, *, is_mounted: bool) -> _Service:
        """The service of this event loop, once it answers. Raises SettingsError, and what opening
        the service raises.
        """
        service = self._service
        if service is None or not service.is_here():
            # A test client has a loop for each request.
            service = self._service = _Service(is_mounted)
        return await service.started()


class _Service:
    """The application from its start to its end, in an asyncio task of its own: if nothing closes
    it, the end of the event loop does, by cancelling that task.
    """

    def __init__(self, is_mounted: bool) -> None:
        self._is_mounted = is_mounted
        self._loop = asyncio.get_running_loop()
        self._app: ASGIApp | None = None
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="hotloop")

    def is_here(self) -> bool:
        """Whether it starts or runs on the event loop of the caller."""
        return self._loop is asyncio.get_running_loop() and not self._task.done()

    async def started(self) -> _Service:
        ready = asyncio.ensure_future(self._ready.wait())
        await asyncio.wait((ready, self._task), return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            self._task.result()
        return self

    async def close(self) -> None:
        self._stop.set()
        await self._task

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None  # `started` has returned
        await self._app(scope, receive, send)

    async def _run(self) -> None:
        from hotloop.app.http.guards.requests import ExposureGuard
        from hotloop.app.serving.outer_server import OuterServer

        outer = OuterServer.found()
        settings, app = await asyncio.to_thread(_make, outer, self._is_mounted)
        self._app = ExposureGuard(app, settings)
        async with app.router.lifespan_context(app):
            self._ready.set()
            if outer is None:
                await self._stop.wait()
            else:
                if not self._is_mounted:
                    outer.bound_its_end(settings.shutdown_seconds)
                await outer.watch(app, self._stop, ends_with_parent=not self._is_mounted)


def _make(outer: OuterServer | None, is_mounted: bool) -> tuple[Settings, FastAPI]:
    """Blocks. Raises SettingsError, StoreUnavailableError."""
    from hotloop.app.factory import create_app
    from hotloop.app.logs.setup import set_up_logging
    from hotloop.app.serving.machine import check_machine
    from hotloop.app.settings.environment import load_settings

    settings = load_settings()
    if outer is not None:
        outer.check_address(settings)
    if not is_mounted:
        set_up_logging(settings.log_options, "api", settings.secrets())
    check_machine(settings, (lambda: False) if outer is None else outer.is_stopping)
    if outer is not None:
        outer.warn(settings)
    app = create_app(settings)
    app.openapi()  # or the first request for it would hold up all others
    return settings, app


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    from fastapi import Request

    from hotloop.app.errors import NotReadyError
    from hotloop.app.http.error_handlers import problem_response

    response = problem_response(Request(scope), NotReadyError(_NOT_STARTED, 30))
    await response(scope, receive, send)
