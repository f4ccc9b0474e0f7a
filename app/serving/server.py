"""The server: uvicorn, which is told apart from its end when to begin with it."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import uvicorn
from fastapi import FastAPI

from hotloop.app.factory import begin_stop, create_app
from hotloop.app.serving.connection import ConnectionLimits, bounded_protocol
from hotloop.app.settings.rules import is_loopback
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.tasks.threads import store_threads

SILENT_SECONDS: Final = 1.0
"""How long a connection that was just accepted may take to send a request, when the server
stops: closed before, its client would take the service for dead."""

_TICK_SECONDS: Final = 0.05

BACKLOG: Final = 2048
"""Connections that wait until they are accepted; the system may allow fewer."""

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
        access_log=False,  # hotloop.app.http.routes.watch writes it
    )
    # Ctrl-C is the usual end.
    with suppress(KeyboardInterrupt):
        Server(app, config, settings.drain_seconds, on_started).run([listener])


def open_listener(settings: Settings) -> socket.socket:
    """Bound and, if it was inherited, already listening. Raises SettingsError."""
    if settings.fd is not None:
        listener = _inherited(settings.fd)
        if not (settings.needs_authentication or _is_local(listener)):
            place = address_of(listener)
            listener.close()
            raise SettingsError(
                f"HOTLOOP_FD = {settings.fd} listens on {place}, which is not loopback: as long as "
                "HOTLOOP_API_KEYS is empty and HOTLOOP_JWT_KEY is not set, everybody who reaches "
                "it could use the service. `python -m hotloop.app.security NAME` makes a key"
            )
        return listener
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"HOTLOOP_HOST and HOTLOOP_PORT: cannot listen on {settings.host} port {settings.port} "
            f"({error.strerror or error}); end what listens there, or choose another port"
        ) from error
    return listener


def _inherited(descriptor: int) -> socket.socket:
    """A duplicate, so that whoever closes it leaves the descriptor as it was."""
    try:
        listener = socket.socket(fileno=os.dup(descriptor))
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(
            f"HOTLOOP_FD = {descriptor} is no socket of this process ({reason}); it is to be "
            "inherited, as systemd's socket units pass theirs, the first as 3. Unset it to listen "
            "on HOTLOOP_HOST and HOTLOOP_PORT."
        ) from error
    if not listens:
        listener.close()
        raise SettingsError(f"HOTLOOP_FD = {descriptor} is a socket that does not listen")
    return listener


def _is_local(listener: socket.socket) -> bool:
    """Whether only this machine reaches it."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    return is_loopback(listener.getsockname()[0])


def address_of(listener: socket.socket) -> str:
    """As a URL, or the path of a Unix socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_INET6:
        return f"http://[{name[0]}]:{name[1]}"
    return f"http://{name[0]}:{name[1]}" if listener.family == socket.AF_INET else f"unix:{name}"
