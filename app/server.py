"""The server: uvicorn, with answers that have no end of their own ended when it stops."""

from __future__ import annotations

import math
import socket
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from app.connection import ConnectionLimits, bounded_protocol
from app.factory import begin_stop
from app.settings import Settings


class Server(uvicorn.Server):
    """Waits, when it stops, for answers in progress; streams of events end at once.

    uvicorn waits for them before it ends the application's lifespan, so that the lifespan alone
    would be told too late.
    """

    def __init__(self, app: FastAPI, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        begin_stop(self._app)
        await super().shutdown(sockets)


def serve(app: FastAPI, settings: Settings) -> None:
    """Serve until a signal says stop."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        server_header=False,
        http=bounded_protocol(
            ConnectionLimits(
                settings.max_header_bytes, settings.header_seconds, settings.write_seconds
            )
        ),
        ws="none",
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
    )
    # Ctrl-C is the usual end.
    with suppress(KeyboardInterrupt):
        Server(app, config).run()
