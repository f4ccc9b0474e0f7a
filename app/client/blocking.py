"""The client of a service for programs without an event loop, and for notebooks.

with hotloop.Client("http://localhost:8001") as client:
    price = client.call(american_put, spot=100.0)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, Final, ParamSpec, Self, TypeVar

from hotloop.app.client.client import (
    RETRIES,
    TIMEOUT_SECONDS,
    AsyncClient,
    Function,
    Parameters,
    Progress,
)
from hotloop.app.client.progress import Show
from hotloop.app.client.tables import Results, Values
from hotloop.kernels.functions.declaration import WorkloadFunction

END_SECONDS: Final = 10.0
"""Time that an interrupted call waits until its task is cancelled."""

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Client:
    """Does what AsyncClient does. Use it as a context manager, or call `close`. Its methods may be
    called from several threads.

    An AsyncClient on an event loop of its own, in a thread that ends with it, does the work.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8001",
        *,
        key: str | None = None,
        token: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
    ) -> None:
        """The arguments are those of AsyncClient."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="hotloop-client", daemon=True
        )
        self._thread.start()

        async def made() -> AsyncClient:
            return AsyncClient(url, key=key, token=token, timeout=timeout, retries=retries)

        self._client = self._do(made())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Tasks that were submitted go on."""
        if self._loop.is_closed():
            return
        self._do(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, workload: WorkloadFunction[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do what `AsyncClient.call` does."""
        return self._do(self._client.call(workload, *args, **kwargs))

    def call_many(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Parameters | None = None,
        **options: Any,
    ) -> Results:
        """Do what `AsyncClient.call_many` does."""
        return self._do(self._client.call_many(workload, columns, parameters, **options))

    def run(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Parameters | None = None,
        **options: Any,
    ) -> Results:
        """Do what `AsyncClient.run` does. Ctrl-C cancels the task."""
        return self._do(self._client.run(workload, columns, parameters, **options))

    def submit(
        self,
        workload: Function | str,
        columns: Values,
        parameters: Parameters | None = None,
        **options: Any,
    ) -> str:
        """Do what `AsyncClient.submit` does."""
        return self._do(self._client.submit(workload, columns, parameters, **options))

    def result(self, task_id: str, *, progress: Show = False) -> Results:
        """Do what `AsyncClient.result` does."""
        return self._do(self._client.result(task_id, progress=progress))

    def events(self, task_id: str) -> Generator[Progress, None, None]:
        """Do what `AsyncClient.events` does."""
        events = self._client.events(task_id)

        async def following() -> Progress | None:
            return await anext(events, None)

        try:
            while (state := self._do(following())) is not None:
                yield state
        finally:
            self._do(_closed(events))

    def task(self, task_id: str) -> dict[str, Any]:
        """Do what `AsyncClient.task` does."""
        return self._do(self._client.task(task_id))

    def cancel(self, task_id: str) -> None:
        """Do what `AsyncClient.cancel` does."""
        self._do(self._client.cancel(task_id))

    def resume(self, task_id: str) -> None:
        """Do what `AsyncClient.resume` does."""
        self._do(self._client.resume(task_id))

    def retry_failed(self, task_id: str) -> None:
        """Do what `AsyncClient.retry_failed` does."""
        self._do(self._client.retry_failed(task_id))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work on the loop, and wait for it. If this thread is interrupted, cancel the work, and
        wait until it has ended.
        """
        ended = threading.Event()

        async def watched() -> T:
            try:
                return await work
            finally:
                ended.set()

        future = asyncio.run_coroutine_threadsafe(watched(), self._loop)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait(END_SECONDS)
            raise


async def _closed(events: AsyncGenerator[Any, None]) -> None:
    await events.aclose()
