"""The service as an ASGI application under another server, which it watches.

uvicorn (`uvicorn main:app`) notifies an application of its shutdown only when all answers are
complete, so a stream of events would delay the shutdown for ever. The service watches the server
instead.
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import os
import signal
import sys
from typing import Final

import uvicorn
from fastapi import FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hotloop.app.database.threads import store_threads
from hotloop.app.errors import NotReadyError
from hotloop.app.factory import begin_stop, create_app
from hotloop.app.http.error_handlers import problem_response
from hotloop.app.http.guards.requests import ExposureGuard
from hotloop.app.logs.setup import set_up_logging
from hotloop.app.serving.node import check_machine
from hotloop.app.settings.environment import load_settings
from hotloop.app.settings.rules import is_loopback
from hotloop.app.settings.settings import Settings, SettingsError

logger = logging.getLogger(__name__)

_TICK_SECONDS: Final = 0.1
"""Time between two checks of the server; uvicorn checks its signals as often."""


class Service:
    """The application from its start to its end, in its own asyncio task. If nothing closes it, the
    end of the event loop cancels that task.
    """

    def __init__(self, is_mounted: bool) -> None:
        self._is_mounted = is_mounted
        self._loop = asyncio.get_running_loop()
        self._app: ASGIApp | None = None
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="hotloop")

    def is_here(self) -> bool:
        """True if the service starts or runs on the caller's event loop."""
        return self._loop is asyncio.get_running_loop() and not self._task.done()

    async def started(self) -> Service:
        """Wait until the service answers. Raises the error of a start that failed."""
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
    """Load the settings and make the application. Blocks. Raises SettingsError and
    StoreUnavailableError.
    """
    settings = load_settings()
    if outer is not None:
        outer.check_address(settings)
    if not is_mounted:
        set_up_logging(settings.log_options, "api", settings.secrets())
    check_machine(settings, (lambda: False) if outer is None else outer.is_stopping)
    if outer is not None:
        outer.warn(settings)
    app = create_app(settings)
    app.openapi()  # made now, because making it in a request would delay all others
    return settings, app


async def refuse(reason: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with 503 and the reason."""
    response = problem_response(Request(scope), NotReadyError(reason, 30))
    await response(scope, receive, send)


class OuterServer:
    """A uvicorn server that runs in this process, alone or for gunicorn."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        is_gunicorns = "gunicorn.arbiter" in sys.modules
        self._gunicorn = os.getppid() if is_gunicorns else None
        self._shares_its_port = is_gunicorns or server.config.workers > 1

    @classmethod
    def found(cls) -> OuterServer | None:
        """Find the server that handles this process's signals; None under other servers."""
        handler = signal.getsignal(signal.SIGTERM)
        server = getattr(handler, "__self__", None)
        return cls(server) if isinstance(server, uvicorn.Server) else None

    def check_address(self, settings: Settings) -> None:
        """Refuse a server that other machines can reach if the service has no keys. Raises
        SettingsError. gunicorn hides its address; under it, single requests are refused.
        """
        config = self._server.config
        if settings.needs_authentication or config.uds is not None or config.fd is not None:
            return
        if not is_loopback(config.host):
            raise SettingsError(
                f"--host must be a loopback address, like 127.0.0.1 (got {config.host!r}), as long "
                "as HOTLOOP_API_KEYS is empty and HOTLOOP_JWT_KEY is not set: everybody who "
                "reaches the service could use it. `hotloop key NAME` makes a key"
            )

    def bound_its_end(self, seconds: float) -> None:
        """Limit the time of requests in progress when the server stops, unless
        `--timeout-graceful-shutdown` was given.
        """
        if self._server.config.timeout_graceful_shutdown is None:
            self._server.config.timeout_graceful_shutdown = math.ceil(seconds)

    def warn(self, settings: Settings) -> None:
        """Warn of what several server processes do not share."""
        if not self._shares_its_port:
            return
        logger.warning(
            "several server processes: /metrics has the numbers of the process that answers; "
            "use HOTLOOP_API_PROCESSES with `python main.py` for the sums"
        )
        if settings.needs_authentication and settings.session_secret is None:
            logger.warning(
                "several server processes and no HOTLOOP_SESSION_SECRET: browsers that sign in at "
                "one process are not signed in at the others; set HOTLOOP_SESSION_SECRET"
            )

    async def watch(self, app: FastAPI, closing: asyncio.Event, *, ends_with_parent: bool) -> None:
        """Return when `closing` is set. If the server stops earlier, end the streams of `app`. With
        `ends_with_parent`, stop the server when the process that started it is gone.
        """
        told = False
        while not closing.is_set():
            if not told and self.is_stopping():
                begin_stop(app)
                store_threads().hurry()
                told = True
            if ends_with_parent and not told and self._is_orphan():
                logger.warning("the process that started this server is gone; it stops")
                os.kill(os.getpid(), signal.SIGTERM)
            try:
                await asyncio.wait_for(closing.wait(), _TICK_SECONDS)
            except TimeoutError:
                continue

    def is_stopping(self) -> bool:
        """True if the server stops: it has set `should_exit`, or has closed its sockets, which it
        does without setting that after its last request.
        """
        servers = getattr(self._server, "servers", [])
        has_closed = bool(servers) and not any(server.is_serving() for server in servers)
        return self._server.should_exit or has_closed

    def _is_orphan(self) -> bool:
        parent = multiprocessing.parent_process()  # of --reload and --workers
        if parent is not None:
            return not parent.is_alive()
        return self._gunicorn is not None and os.getppid() != self._gunicorn
