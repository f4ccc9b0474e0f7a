"""uvicorn with a staged shutdown that starts before uvicorn's own, and the socket for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import uvicorn
from fastapi import FastAPI

from hotloop.app.database.threads import store_threads
from hotloop.app.factory import begin_stop, create_app, create_node_app
from hotloop.app.serving.announcing import announce
from hotloop.app.serving.connection import ConnectionLimits, bounded_protocol
from hotloop.app.settings.rules import is_loopback
from hotloop.app.settings.settings import Settings, SettingsError
from hotloop.app.wiring import Services

logger = logging.getLogger(__name__)

SILENT_SECONDS: Final = 1.0
"""Time for a newly accepted connection to send a request when the server stops. If it were closed
earlier, its client would take the service for dead."""

_TICK_SECONDS: Final = 0.05

BACKLOG: Final = 2048
"""Connections that wait until they are accepted; the system may allow fewer."""

GARBAGE_THRESHOLDS: Final = (5_000, 2, 200)
"""Thresholds of garbage collection. A full collection takes 100 ms beside a thousand event streams,
and delays all requests. With these values it runs only after 2 million more objects were made than
freed. With the defaults it ran three times while the streams opened."""


SWITCH_SECONDS: Final = 0.0005
"""Time that a thread keeps the GIL while another one asks for it. With CPython's 5 ms, a write to
the store beside a busy event loop would take several times as long."""


class Server(uvicorn.Server):
    """A server that stops in this order:

    1. It reports that it is not ready, and ends the streams of events.
    2. It goes on for `drain_seconds`, so that load balancers notice.
    3. It accepts no more connections.
    4. It waits for the requests of connections that it has accepted.
    5. It waits for answers in progress, and closes the application.

    uvicorn itself does the third and the last step only.
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
        await asyncio.sleep(_TICK_SECONDS)  # an accepted socket becomes a connection
        await self._wait(SILENT_SECONDS, self._has_silent_connections)
        await super().shutdown(sockets)

    def _has_silent_connections(self) -> bool:
        connections = list(self.server_state.connections)
        return any(getattr(connection, "cycle", True) is None for connection in connections)

    async def _wait(self, seconds: float, wanted: Callable[[], bool]) -> None:
        give_up = time.monotonic() + seconds
        while wanted() and time.monotonic() < give_up and not self.force_exit:  # noqa: ASYNC110
            # uvicorn has no events for its connections or for a second signal.
            await asyncio.sleep(_TICK_SECONDS)


def serve_app(
    settings: Settings,
    listener: socket.socket,
    on_started: Callable[[], None],
    *,
    announces: bool = True,
) -> None:
    """Serve in this process until a signal stops it. Call it in the main thread.

    With `announces` it prints what became of own workloads; one process of a service is enough.
    """
    # Once all is closed, uvicorn repeats the signal that stopped it. The signal's default action
    # would end the process with the status of a killed one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    app = create_app(settings)
    app.openapi()  # made now, because making it in a request would delay all others
    # Objects that are loaded by now live on; collecting them would only delay all requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    sys.setswitchinterval(SWITCH_SECONDS)
    announcing: list[asyncio.Task[None]] = []

    def started() -> None:
        on_started()
        if announces:
            catalogue = app.state.shared.services.catalogue
            announcing.append(asyncio.create_task(announce(catalogue, address_of(listener))))

    # Ctrl-C is the usual end.
    with suppress(KeyboardInterrupt):
        Server(app, _config(app, settings), settings.drain_seconds, started).run([listener])


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
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


def node_server(settings: Settings, services: Services, listener: socket.socket) -> Server:
    """Return a server of a node's health and metrics, which does not open or close `services`.
    It stops at a signal, as the node does, or when `should_exit` is set.
    """

    @asynccontextmanager
    async def opened(_: Settings) -> AsyncIterator[Services]:
        yield services

    def started() -> None:
        logger.info("node %s is running on %s", services.node, address_of(listener))

    app = create_node_app(settings, opened)
    return Server(app, _config(app, settings), on_started=started)


def open_listener(settings: Settings) -> socket.socket:
    """Open the socket that HOTLOOP_FD, or HOTLOOP_HOST and HOTLOOP_PORT name. It is bound; an
    inherited one already listens. Raises SettingsError.
    """
    if settings.fd is not None:
        listener = _inherited(settings.fd)
        if not (settings.needs_authentication or _is_local(listener)):
            place = address_of(listener)
            listener.close()
            raise SettingsError(
                f"HOTLOOP_FD = {settings.fd} listens on {place}, which is not loopback: as long as "
                "HOTLOOP_API_KEYS is empty and HOTLOOP_JWT_KEY is not set, everybody who reaches "
                "it could use the service. `hotloop key NAME` makes a key"
            )
        return listener
    return bound_socket(settings.host, settings.port, "HOTLOOP_PORT")


def bound_socket(host: str, port: int, variable: str) -> socket.socket:
    """Return a socket that is bound and does not listen yet. `variable` is the setting of the port.
    Raises SettingsError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
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
            f"HOTLOOP_HOST and {variable}: cannot listen on {host} port {port} "
            f"({error.strerror or error}); stop what listens there, or choose another port"
        ) from error
    return listener


def _inherited(descriptor: int) -> socket.socket:
    """Return a duplicate of the descriptor, so that closing it leaves the inherited one open."""
    try:
        listener = socket.socket(fileno=os.dup(descriptor))
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(
            f"HOTLOOP_FD = {descriptor} is not a socket of this process ({reason}). The process "
            "must inherit it: systemd's socket units pass the first one as 3. Unset it to listen "
            "on HOTLOOP_HOST and HOTLOOP_PORT."
        ) from error
    if not listens:
        listener.close()
        raise SettingsError(
            f"HOTLOOP_FD = {descriptor} is a socket that does not listen. Pass one that "
            "listens, or unset it to listen on HOTLOOP_HOST and HOTLOOP_PORT."
        )
    return listener


def _is_local(listener: socket.socket) -> bool:
    """Return True if only this machine can reach the socket."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return True
    return is_loopback(listener.getsockname()[0])


def address_of(listener: socket.socket) -> str:
    """Return the URL of a socket, or `unix:` and the path of a Unix socket."""
    name = listener.getsockname()
    if listener.family == socket.AF_INET6:
        return f"http://[{name[0]}]:{name[1]}"
    return f"http://{name[0]}:{name[1]}" if listener.family == socket.AF_INET else f"unix:{name}"
