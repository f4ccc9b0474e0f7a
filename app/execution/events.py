"""Events of tasks for any number of watchers: each change is read and serialized once for all.

Only the store's reads happen outside the event loop, one at a time: more threads would keep the
loop waiting for the interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import StoreError, TaskNotFoundError
from hotloop.app.execution.context import Bodies
from hotloop.app.execution.presenters import living_nodes, task_progress
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.tasks import TaskEvent, TaskProgress
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.store import TaskStore

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
"""Pause between two reads; a watcher hears of a change after at most about twice this."""

TASKS_AT_ONCE: Final = 50
"""Tasks in one read; the event loop shares the interpreter with it."""

WOKEN_AT_ONCE: Final = 10
"""Watchers to wake before other requests have a turn."""


class Moment:
    """A task as one read of the store found it."""

    def __init__(self, client: str | None, data: TaskProgress, read_at: float) -> None:
        """`client` owns the task; `read_at` is when the read began (monotonic)."""
        self.client = client
        self.data = data
        self.read_at = read_at
        self.mark = _mark(data.status, data.items_processed)
        self._events: dict[str, TaskEvent] = {}

    @property
    def status(self) -> TaskStatus:
        return self.data.status

    def event(self, name: Literal["progress", "state"]) -> TaskEvent:
        """Return an event, the same object for every watcher, so that it is serialized once."""
        if name not in self._events:
            self._events[name] = TaskEvent(self.mark, name, self.data)
        return self._events[name]


@dataclass(slots=True, eq=False)
class _Channel:
    """The state of one task, shared by its watchers."""

    task_id: str
    watchers: int = 0
    moment: Moment | None = None
    error: Exception | None = None
    """The error of the last read; None if it worked."""
    is_gone: bool = False
    asking: list[asyncio.Future[None]] = field(default_factory=list)
    """Requests that wait for a read."""
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    """Watchers that wait for a change."""

    def differs(self, stands: tuple[TaskStatus, int] | None) -> bool:
        """Return True if the task differs from the last event; `stands` is None if it is gone."""
        return self.moment is None or stands is None or self.moment.mark != _mark(*stands)

    def take(self, found: Moment | Exception | None) -> bool:
        """Keep the result of a read, which is None if there is no such task. Return True if the
        watchers must be woken.
        """
        before = self.moment
        self.error = found if isinstance(found, Exception) else None
        self.is_gone = found is None
        if isinstance(found, Moment):
            self.moment = found
            return before is None or before.mark != found.mark
        return True


class EventHub:
    """Polls the store for the watched tasks, as long as there are any."""

    def __init__(self, store: TaskStore, bodies: Bodies) -> None:
        self._store = store
        self._bodies = bodies
        self._channels: dict[str, _Channel] = {}
        self._asked = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._woken = 0

    async def now(self, task_id: str) -> Moment:
        """Return the task as it was at most POLL_SECONDS ago. An ended task is always read again,
        because it may have been resumed. Raises TaskNotFoundError, StoreError.
        """
        with self._watching(task_id) as channel:
            return await self._now(channel)

    async def events(
        self, task_id: str, last_event_id: str | None
    ) -> AsyncGenerator[TaskEvent, None]:
        """Yield the task's state, unless it is `last_event_id`, and then each change until the
        task has ended or is deleted. Raises TaskNotFoundError, StoreError.
        """
        with self._watching(task_id) as channel:
            moment = await self._now(channel)
            seen, status = last_event_id, None
            while True:
                if moment.mark != seen:
                    yield moment.event("progress" if moment.status is status else "state")
                seen, status = moment.mark, moment.status
                if moment.status.has_ended:
                    return
                while (moment := channel.moment or moment).mark == seen:
                    await _turn(channel.waiting)
                    if channel.is_gone:
                        return
                    if channel.error is not None:
                        raise channel.error

    async def close(self) -> None:
        """Stop polling. Call this after the watchers were told to leave."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _now(self, channel: _Channel) -> Moment:
        asked = time.monotonic()
        while True:
            moment = channel.moment
            if moment is not None:
                patience = 0.0 if moment.status.has_ended else POLL_SECONDS
                if moment.read_at >= asked - patience:
                    return moment
            if channel.is_gone:
                raise TaskNotFoundError(channel.task_id)
            self._asked.set()
            await _turn(channel.asking)
            if channel.error is not None:
                raise channel.error

    @contextlib.contextmanager
    def _watching(self, task_id: str) -> Iterator[_Channel]:
        channel = self._channels.get(task_id)
        if channel is None:
            channel = self._channels[task_id] = _Channel(task_id)
        channel.watchers += 1
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll())
        try:
            yield channel
        finally:
            channel.watchers -= 1

    async def _poll(self) -> None:
        due = time.monotonic()
        while self._channels:
            self._asked.clear()
            await self._answer([one for one in self._channels.values() if one.asking])
            if time.monotonic() >= due:
                try:
                    await self._look_for_changes()
                except StoreError:
                    pass  # watchers wait until the store can be reached again
                except Exception:
                    logger.exception("the watched tasks could not be read")
                due = time.monotonic() + POLL_SECONDS
                self._forget_unwatched()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), max(0.0, due - time.monotonic()))
        self._polling = None

    async def _answer(self, channels: list[_Channel]) -> None:
        """Read the tasks that requests wait for."""
        for some in _slices(channels):
            try:
                await self._read(some)
            except StoreError as error:
                for channel in some:
                    channel.error = error
            for channel in some:
                asking, channel.asking = channel.asking, []
                await self._wake(asking)

    async def _look_for_changes(self) -> None:
        watched = {name: one for name, one in self._channels.items() if one.moment is not None}
        if not watched:
            return
        found = await in_store_thread(self._store.progress, list(watched))
        changed = [one for name, one in watched.items() if one.differs(found.get(name))]
        for some in _slices(changed):
            await self._read(some)

    async def _read(self, channels: list[_Channel]) -> None:
        """Read these tasks, and wake the watchers of each changed task."""
        found = await in_store_thread(self._moments, [one.task_id for one in channels])
        for channel in channels:
            if not channel.take(found.get(channel.task_id)):
                continue
            if channel.is_gone and self._channels.get(channel.task_id) is channel:
                del self._channels[channel.task_id]
            waiting, channel.waiting = channel.waiting, []
            await self._wake(waiting)

    def _moments(self, task_ids: list[str]) -> dict[str, Moment | Exception]:
        """Return each task's state by its id, or the error if the task cannot be shown."""
        read_at = time.monotonic()
        found: dict[str, Moment | Exception] = {}
        several = self._several(task_ids)
        living = living_nodes(
            self._store, (read[0] for read in several.values() if not isinstance(read, Exception))
        )
        for task_id, read in several.items():
            try:
                if isinstance(read, Exception):
                    raise read
                task, shards = read
                progress = task_progress(task, shards, self._bodies, living)
                found[task_id] = Moment(task.client, progress, read_at)
            except Exception as error:
                found[task_id] = error
        return found

    def _several(self, task_ids: list[str]) -> Mapping[str, tuple[Task, list[Shard]] | Exception]:
        try:
            return self._store.several(task_ids)
        except StoreError:
            raise
        except Exception as error:
            # A row that this version cannot read must not block the watchers of other tasks.
            if len(task_ids) == 1:
                return {task_ids[0]: error}
        return {name: read for one in task_ids for name, read in self._several([one]).items()}

    async def _wake(self, futures: Iterable[asyncio.Future[None]]) -> None:
        for future in futures:
            if future.done():
                continue
            future.set_result(None)
            self._woken += 1
            if self._woken % WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)

    def _forget_unwatched(self) -> None:
        self._channels = {name: one for name, one in self._channels.items() if one.watchers}


async def _turn(queue: list[asyncio.Future[None]]) -> None:
    """Wait in a queue until woken."""
    future = asyncio.get_running_loop().create_future()
    queue.append(future)
    try:
        await future
    except asyncio.CancelledError:
        with contextlib.suppress(ValueError):
            queue.remove(future)
        raise


def _slices(channels: list[_Channel]) -> Iterator[list[_Channel]]:
    for start in range(0, len(channels), TASKS_AT_ONCE):
        yield channels[start : start + TASKS_AT_ONCE]


def _mark(status: TaskStatus, items_processed: int) -> str:
    """Return the id of a task's state: two moments with the same mark look alike to a watcher."""
    return f"{status}.{items_processed}"
