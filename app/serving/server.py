"""The server: uvicorn, which is told apart from its end when to begin with it."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from hotloop.app.factory import begin_stop, create_app
from hotloop.app.logs.setup import set_up_logging
from hotloop.app.observability.metrics_folder import metrics_folder
from hotloop.app.serving.connection import ConnectionLimits, bounded_protocol
from hotloop.app.serving.listening import BACKLOG, address_of, open_listener
from hotloop.app.serving.supervisor import Supervisor
from hotloop.app.settings.environment import drop_settings
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.settings.tokens import MIN_SECRET_BYTES
from hotloop.app.tasks.threads import store_threads

logger = logging.getLogger(__name__)

SILENT_SECONDS: Final = 1.0
"""How long a connection that was just accepted may take to send a request, when the server
stops: closed before, its client would take the service for dead."""

_TICK_SECONDS: Final = 0.05

GARBAGE_THRESHOLDS: Final = (5_000, 2, 200)
"""Looking through everything takes 100 ms beside a thousand streams of events, and holds up all
requests. It is done after 2 million more objects have come than gone, and what is young is looked
through in small portions; with the defaults it was done three times while the streams opened."""


class Server(uvicorn.Server):
    """Stops in this order: says that it is not ready and ends the answers that have no end; goes on
    for `drain_seconds`, so that balancers notice; accepts no more connections; hears out those that
    it has accepted; waits for answers in progress; closes the application.

    uvicorn does the third and the last two, and knows nothing of the others.
    """

    def __init__(
        self,
        app: FastAPI,
        config: uvicorn.Config,
        drain_seconds: float = 0.0,
        on_started: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        begin_stop(self._app)
        await self._wait(self._drain_seconds, lambda: True)
        store_threads().hurry()
        for server in self.servers:
            server.close()
        await asyncio.sleep(_TICK_SECONDS)  # what the loop has accepted becomes a connection
        await self._wait(SILENT_SECONDS, self._has_silent_connections)
        await super().shutdown(sockets)

    def _has_silent_connections(self) -> bool:
        connections = list(self.server_state.connections)
        return any(getattr(connection, "cycle", True) is None for connection in connections)

    async def _wait(self, seconds: float, wanted: Callable[[], bool]) -> None:
        give_up = time.monotonic() + seconds
        while wanted() and time.monotonic() < give_up and not self.force_exit:  # noqa: ASYNC110
            # uvicorn tells nobody of its connections, nor of a second signal.
            await asyncio.sleep(_TICK_SECONDS)


def serve_app(settings: Settings, listener: socket.socket, on_started: Callable[[], None]) -> None:
    """One process's part of it, until a signal says stop. To be called in the main thread."""
    # uvicorn repeats the signal that stopped it once all is closed: by default it would end the
    # process, with a status that says that it was killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = create_app(settings)
    app.openapi()  # or the first request for it would hold up all others
    # What is loaded by now is never garbage; looking through it would hold up all requests, too.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    config = uvicorn.Config(
        app,
        backlog=BACKLOG,
        server_header=False,
        http=bounded_protocol(
            ConnectionLimits(
                settings.max_header_bytes, settings.header_seconds, settings.write_seconds
            )
        ),
        ws="none",
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
        log_config=None,
        access_log=False,  # hotloop.app.http.guards.watch writes it
    )
    # Ctrl-C is the usual end.
    with suppress(KeyboardInterrupt):
        Server(app, config, settings.drain_seconds, on_started).run([listener])


def _with_one_secret(settings: Settings) -> Settings:
    """A browser that signed in at one process is signed in at the others."""
    if settings.session_secret is not None:
        return settings
    made = SecretStr(secrets.token_urlsafe(MIN_SECRET_BYTES))
    return settings.model_copy(update={"session_secret": made})


def serve(settings: Settings) -> None:
    """Serve until a signal says stop. A socket that cannot be had is printed; the exit status is
    then 2.
    """
    try:
        listener = open_listener(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    drop_settings()
    set_up_logging(settings.log_options, "api", settings.secrets())
    if settings.api_processes > 1:
        settings = _with_one_secret(settings)
        with metrics_folder(settings.data_dir) as folder:
            announce = f"running on {address_of(listener)} in {settings.api_processes} processes"
            Supervisor(settings, listener, folder, announce).run()
        return

    def announce_one() -> None:
        logger.info("running on %s (Ctrl-C ends it)", address_of(listener))

    serve_app(settings, listener, announce_one)
