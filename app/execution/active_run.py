"""A run in progress, as the process that drives it sees it."""

from __future__ import annotations

import asyncio
from typing import Any

from hotloop.app.runhost.client import RunHostClient


class ActiveRun:
    """The way to cancel a run at any moment of its life.

    `driver` is the asyncio task that drives it. Cancelled before its run has begun, the driver
    itself is cancelled; from then on its run host is asked, so that finished batches still come.
    """

    def __init__(self, task_id: str) -> None:
        self.task_id = task_id
        self.driver: asyncio.Task[Any] | None = None
        self._client: RunHostClient | None = None
        self._cancelled = False

    def begins_on(self, client: RunHostClient) -> None:
        """From now on, until `ends`, its run host is asked."""
        self._client = client

    def ends(self) -> None:
        """The run host is another's from now on."""
        self._client = None

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled

    async def cancel(self) -> None:
        """Ask the task to end; returns at once, and a second call does nothing."""
        if self._cancelled:
            return
        self._cancelled = True
        if self._client is not None:
            await self._client.cancel()
        elif self.driver is not None:
            self.driver.cancel()

    async def wait_ended(self) -> None:
        """Until the outcome is in the store."""
        if self.driver is not None:
            await asyncio.wait((self.driver,))
