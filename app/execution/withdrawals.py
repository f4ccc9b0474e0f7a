"""Background tasks that were begun to be accepted and are not to be kept after all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from hotloop.app.errors import StoreError
from hotloop.app.execution.context import RunContext
from hotloop.app.tasks.acceptance import withdraw_unaccepted
from hotloop.app.tasks.threads import in_store_thread

RETRY_SECONDS: Final = 1.0
"""Between two tries to withdraw a task while the store cannot be used."""


class Withdrawals:
    """Forgets tasks that were not accepted, as soon as the store can be used."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._later: set[asyncio.Task[None]] = set()

    async def withdraw(self, task_id: str) -> None:
        """Forget a task with its files, unless it was accepted. Raises nothing: when the store
        cannot be used, it is tried again behind the caller's back.
        """
        try:
            await in_store_thread(self._forget, task_id)
        except StoreError:
            later = asyncio.create_task(self._withdraw_later(task_id))
            self._later.add(later)
            later.add_done_callback(self._later.discard)

    async def close(self) -> None:
        """Give up what is left: other processes withdraw it when they see that this one is gone."""
        later = list(self._later)
        for each in later:
            each.cancel()
        await asyncio.gather(*later, return_exceptions=True)

    async def _withdraw_later(self, task_id: str) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            with suppress(StoreError):
                await in_store_thread(self._forget, task_id)
                return

    def _forget(self, task_id: str) -> None:
        if withdraw_unaccepted(self._context.store.engine, task_id):
            self._context.folder.remove(task_id)
