"""The service for ASGI servers, `uvicorn hotloop.asgi:app`, and for mounting in an application.

`python main.py` does not come here: `hotloop.app.serving.server` controls more of a connection and
of the shutdown.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # Everything else is imported when the service starts: `import main` takes no time, reads no
    # settings and starts nothing.
    from starlette.types import Receive, Scope, Send

    from hotloop.app.serving.asgi import Service

logger = logging.getLogger(__name__)

_NOT_STARTED: Final = "the service cannot start now; its log says what is wrong"


class LazyApplication:
    """An ASGI application that reads the settings from the environment when it starts: with the
    server's lifespan, else with the first request.
    """

    def __init__(self) -> None:
        self._service: Service | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
            return
        try:
            service = await self._started(is_mounted=True)
        except _start_errors() as error:
            from hotloop.app.serving.asgi import refuse

            logger.error("%s", error)
            await refuse(_NOT_STARTED, scope, receive, send)
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
        await receive()
        try:
            service = await self._started(is_mounted=False)
        except Exception as error:
            is_known = isinstance(error, _start_errors())
            message = str(error) if is_known else traceback.format_exc()
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await service.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _started(self, *, is_mounted: bool) -> Service:
        """The service of this event loop, once it answers. Raises SettingsError, and what opening
        the service raises.
        """
        from hotloop.app.serving.asgi import Service

        if self._service is None or not self._service.is_here():
            # A test client has a loop for each request.
            self._service = Service(is_mounted)
        return await self._service.started()


def _start_errors() -> tuple[type[Exception], ...]:
    """Errors whose text tells the operator what to do."""
    from hotloop.app.errors import StoreUnavailableError
    from hotloop.app.settings.settings import SettingsError

    return SettingsError, StoreUnavailableError


app = LazyApplication()
