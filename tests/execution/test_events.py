"""Streams of events: what the store is asked for them, and what each watcher is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from hotloop.app.errors import StoreUnavailableError, TaskNotFoundError
from hotloop.app.execution import events as event_hub
from hotloop.app.execution.events import EventHub, Moment
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.schemas.tasks import TaskEvent
from hotloop.app.tasks.model import Shard, Task, new_task_id, utc_now
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.wiring import BODIES
from tests.fixtures.executions import Execution, begin
from tests.fixtures.waiting import until

WATCHERS = 200


class Counted:
    """A store that counts what it is asked, and may be out of reach or know an unreadable task."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self.engine = store.engine
        self.reads: list[list[str]] = []
        self.is_away = False
        self.unreadable: str | None = None

    def several(self, task_ids: Sequence[str]) -> dict[str, tuple[Task, list[Shard]]]:
        self.reads.append(list(task_ids))
        if self.is_away:
            raise StoreUnavailableError("gone", 3)
        if self.unreadable in task_ids:
            raise LookupError("a status of another version")
        return self._store.several(task_ids)

    def progress(self, task_ids: Sequence[str]) -> dict[str, tuple[TaskStatus, int]]:
        if self.is_away:
            raise StoreUnavailableError("gone", 3)
        return self._store.progress(task_ids)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskStore]:
    monkeypatch.setattr(event_hub, "POLL_SECONDS", 0.02)
    opened = open_store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def counted(store: TaskStore) -> Counted:
    return Counted(store)


def put(store: TaskStore, total_items: int = 10) -> str:
    task = Task(
        task_id=new_task_id(),
        task_type=TaskType.BACKGROUND,
        spec={},
        workload="loops",
        kernel="numba",
        strategy="hybrid",
        total_items=total_items,
        created_at=utc_now(),
        owner="1:1.0",
        client="key:alice",
    )
    store.create(task, [total_items])
    return task.task_id


def go_on(execution: Execution, store: TaskStore, processed: int) -> None:
    ref, attempt = execution.shard.ref, execution.shard.attempt
    store.shards.add_results(ref, attempt, [], processed, 0, {})
    execution.processed = processed


class Watchers:
    """Each keeps what it is told."""

    def __init__(self, hub: EventHub, task_id: str, number: int, seen: str | None = None) -> None:
        self.told: list[list[TaskEvent]] = [[] for _ in range(number)]
        self.tasks = [
            asyncio.create_task(self._follow(hub.events(task_id, seen), told)) for told in self.told
        ]

    async def _follow(self, events: AsyncGenerator[TaskEvent, None], told: list[TaskEvent]) -> None:
        async with aclosing(events):
            async for event in events:
                told.append(event)  # noqa: PERF401 - each is seen as it comes

    def have(self, count: int) -> Callable[[], bool]:
        return lambda: all(len(told) == count for told in self.told)


def run(counted: Counted, scenario: Callable[[EventHub], Awaitable[None]]) -> None:
    async def main() -> None:
        hub = EventHub(counted, BODIES)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(60):
                await scenario(hub)
        finally:
            await hub.close()

    asyncio.run(main())


def test_change_is_read_once_and_serialized_once_for_all_watchers(
    store: TaskStore, counted: Counted
) -> None:
    task_id = put(store)

    async def scenario(hub: EventHub) -> None:
        watchers = Watchers(hub, task_id, WATCHERS)
        await until(watchers.have(1), "all know how it stands")
        assert len(counted.reads) == 1
        execution = begin(store, task_id)
        await until(watchers.have(2), "all know that it runs")
        assert len(counted.reads) == 2
        go_on(execution, store, 4)
        await until(watchers.have(3), "all know how far it is")
        assert len(counted.reads) == 3
        execution.end()
        await asyncio.gather(*watchers.tasks)
        assert len(counted.reads) == 4
        names = [(event.event, event.data.status, event.id) for event in watchers.told[0]]
        assert names == [
            ("state", "pending", "pending.0"),
            ("state", "running", "running.0"),
            ("progress", "running", "running.4"),
            ("state", "completed", "completed.4"),
        ]
        for told in watchers.told:
            assert all(a.encoded is b.encoded for a, b in zip(told, watchers.told[0], strict=True))

    run(counted, scenario)


def test_unchanged_tasks_are_not_read(store: TaskStore, counted: Counted) -> None:
    task_id, other = put(store), put(store)

    async def scenario(hub: EventHub) -> None:
        watchers, others = Watchers(hub, task_id, 3), Watchers(hub, other, 3)
        await until(watchers.have(1), "all know how it stands")
        await until(others.have(1), "all know how it stands")
        counted.reads.clear()
        begin(store, other)
        await until(others.have(2), "they know that it runs")
        assert counted.reads == [[other]]
        for task in (*watchers.tasks, *others.tasks):
            task.cancel()

    run(counted, scenario)


def test_many_tasks_that_are_opened_at_once_are_read_together(
    store: TaskStore, counted: Counted
) -> None:
    ids = [put(store) for _ in range(60)]

    async def scenario(hub: EventHub) -> None:
        watchers = [Watchers(hub, task_id, 1) for task_id in ids]
        for one in watchers:
            await until(one.have(1), "it knows how its task stands")
        assert len(counted.reads) <= 2 + len(ids) // event_hub.TASKS_AT_ONCE
        for one in watchers:
            one.tasks[0].cancel()

    run(counted, scenario)


def test_resumed_task_is_not_taken_for_ended(store: TaskStore, counted: Counted) -> None:
    """A watcher that does not read keeps the state of the end; the next one must not get it."""
    task_id = put(store)
    begin(store, task_id).end(TaskStatus.CANCELLED)

    async def scenario(hub: EventHub) -> None:
        slow = hub.events(task_id, None)
        assert (await anext(slow)).data.status is TaskStatus.CANCELLED
        store.shards.resume(task_id)
        assert (await hub.now(task_id)).status is TaskStatus.PENDING
        async with aclosing(hub.events(task_id, None)) as events:
            assert (await anext(events)).data.status is TaskStatus.PENDING
        await slow.aclose()

    run(counted, scenario)


def test_watcher_with_the_final_event_gets_no_other(store: TaskStore, counted: Counted) -> None:
    task_id = put(store)
    begin(store, task_id).end()

    async def scenario(hub: EventHub) -> None:
        assert (await hub.now(task_id)).client == "key:alice"
        watchers = Watchers(hub, task_id, 3, "completed.0")
        await asyncio.gather(*watchers.tasks)
        assert watchers.have(0)()

    run(counted, scenario)


def test_unknown_task_is_an_error_and_removal_ends_the_stream(
    store: TaskStore, counted: Counted
) -> None:
    task_id = put(store)

    async def scenario(hub: EventHub) -> None:
        with pytest.raises(TaskNotFoundError):
            await hub.now(new_task_id())
        watchers = Watchers(hub, task_id, 3)
        await until(watchers.have(1), "all know how it stands")
        store.withdraw(task_id)
        await asyncio.gather(*watchers.tasks)
        assert watchers.have(1)()
        with pytest.raises(TaskNotFoundError):
            await hub.now(task_id)

    run(counted, scenario)


def test_unreachable_store_fails_new_watchers_and_keeps_old_ones(
    store: TaskStore, counted: Counted
) -> None:
    task_id, other = put(store), put(store)

    async def scenario(hub: EventHub) -> None:
        watchers = Watchers(hub, task_id, 3)
        await until(watchers.have(1), "all know how it stands")
        counted.is_away = True
        with pytest.raises(StoreUnavailableError):
            await hub.now(other)
        begin(store, task_id)
        counted.is_away = False
        await until(watchers.have(2), "all know that it runs")
        for task in watchers.tasks:
            task.cancel()

    run(counted, scenario)


def test_task_that_cannot_be_read_harms_its_own_watchers_only(
    store: TaskStore, counted: Counted
) -> None:
    good, bad = put(store), put(store)
    counted.unreadable = bad

    async def scenario(hub: EventHub) -> None:
        first, second = await asyncio.gather(hub.now(good), hub.now(bad), return_exceptions=True)
        assert isinstance(first, Moment)
        assert isinstance(second, LookupError)

    run(counted, scenario)


def test_watchers_are_woken_in_portions_with_other_work_in_between(
    store: TaskStore, counted: Counted
) -> None:
    task_id = put(store)

    async def scenario(hub: EventHub) -> None:
        watchers = Watchers(hub, task_id, WATCHERS)
        await until(watchers.have(1), "all know how it stands")
        begin(store, task_id)
        most, before = 0, WATCHERS
        while not watchers.have(2)():
            await asyncio.sleep(0)
            told = sum(map(len, watchers.told))
            most, before = max(most, told - before), told
        assert most <= 2 * event_hub.WOKEN_AT_ONCE
        for task in watchers.tasks:
            task.cancel()

    run(counted, scenario)


def test_store_is_not_read_without_watchers(store: TaskStore, counted: Counted) -> None:
    task_id = put(store)

    async def scenario(hub: EventHub) -> None:
        await hub.now(task_id)
        await until(lambda: len(asyncio.all_tasks()) == 1, "nothing goes on")

    run(counted, scenario)
