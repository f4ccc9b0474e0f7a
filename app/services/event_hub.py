"""Events of tasks for any number of watchers: the store is asked once for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from typing import Final

from app.errors import StoreError, TaskNotFoundError
from app.names import TaskStatus
from app.schemas.events import TaskEvent
from app.services.views import task_view
from app.tasks.store import TaskStore
from app.tasks.threads import in_store_thread

POLL_SECONDS: Final = 0.25
"""How late a watcher hears of a change, at most about twice this."""

_GONE: Final = "gone"


class EventHub:
    """Asks the store for the tasks that are watched, as long as any is."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._watched: Counter[str] = Counter()
        self._marks: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._polling: asyncio.Task[None] | None = None

    async def events(
        self, task_id: str, last_event_id: str | None
    ) -> AsyncGenerator[TaskEvent, None]:
        """How the task stands, unless the watcher knows that, and every change that is seen until
        the task has ended or is deleted. Raises TaskNotFoundError, StoreError.
        """
        view = await in_store_thread(task_view, self._store, task_id)
        seen, status = last_event_id, None
        with self._watching(task_id):
            while True:
                mark = _mark(view.status, view.items_processed)
                if mark != seen:
                    yield TaskEvent(mark, "progress" if view.status is status else "state", view)
                seen, status = mark, view.status
                if view.status.has_ended:
                    return
                async with self._changed:
                    await self._changed.wait_for(partial(self._differs, task_id, mark))
                try:
                    view = await in_store_thread(task_view, self._store, task_id)
                except TaskNotFoundError:
                    return

    def _differs(self, task_id: str, mark: str) -> bool:
        return self._marks.get(task_id, mark) != mark

    @contextlib.contextmanager
    def _watching(self, task_id: str) -> Iterator[None]:
        self._watched[task_id] += 1
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._watched[task_id] -= 1
            if not self._watched[task_id]:
                del self._watched[task_id]
                self._marks.pop(task_id, None)

    async def _poll(self) -> None:
        while self._watched:
            with contextlib.suppress(StoreError):  # watchers wait until it is there again
                watched = list(self._watched)
                found = await in_store_thread(self._store.progress, watched)
                async with self._changed:
                    for task_id in watched:
                        if task_id in self._watched:
                            at = found.get(task_id)
                            self._marks[task_id] = _GONE if at is None else _mark(*at)
                    self._changed.notify_all()
            await asyncio.sleep(POLL_SECONDS)
        self._polling = None

    async def close(self) -> None:
        """Stop asking; watchers have been told to leave."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)


def _mark(status: TaskStatus, items_processed: int) -> str:
    """Two moments of a task with the same mark look the same to a watcher."""
    return f"{status}.{items_processed}"
