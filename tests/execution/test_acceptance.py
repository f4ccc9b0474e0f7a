"""execution.acceptance, background: equal requests under one key, and a failing store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotloop.app.errors import (
    IdempotencyConflictError,
    KeyInUseError,
    PayloadTooLargeError,
    StoreUnavailableError,
)
from hotloop.app.execution import acceptance
from hotloop.app.execution.background import BackgroundService
from hotloop.app.execution.client_limits import ClientStorage
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.acceptance import accept, withdraw_unaccepted
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Task, new_task_id
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.wiring import BODIES
from tests.fixtures.waiting import until

LOST = StoreUnavailableError("the answer to the commit was lost")
KEY, DIGEST = "nightly", "digest"


class Source:
    """Items that come in when the test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.complete = asyncio.Event()
        self.error: Exception | None = None
        self.size, self.sha256 = 10, "0" * 64

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        self.begun.set()
        await self.complete.wait()
        if self.error is not None:
            raise self.error
        folder.items_path(task_id).touch()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    store = open_store(tmp_path)
    yield store
    store.close()


def service_of(store: TaskStore, folder: Path) -> BackgroundService:
    context: Any = SimpleNamespace(
        store=store,
        folder=DataFolder(folder),
        settings=Settings(),
        storage=ClientStorage(lambda client: 0, 1 << 20),
        node="this",
        bodies=BODIES,
    )
    queue: Any = SimpleNamespace(wake=lambda: None)
    hub: Any = None
    small: Any = None
    return BackgroundService(context, queue, hub, small)


@pytest.fixture
def service(store: TaskStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackgroundService:
    monkeypatch.setattr(acceptance, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(acceptance, "RETRY_SECONDS", 0.01)
    return service_of(store, tmp_path)


def new_task(**changes: Any) -> Task:
    task = Task(
        task_id=new_task_id(),
        task_type="background",
        spec={"workers": 1, "batch_size": 10, "db": "none", "cache": "none"},
        workload="loops",
        kernel="numba",
        strategy="hybrid",
        total_items=10,
        created_at=datetime.now(UTC),
        owner="this",
        idempotency_key=KEY,
    )
    return replace(task, **changes)


def submit(service: BackgroundService, source: Any, digest: str | None = DIGEST) -> Any:
    """A request as a task of the event loop."""
    return asyncio.create_task(service.submit_task(new_task(), source, digest))


def ready() -> Source:
    source = Source()
    source.complete.set()
    return source


def kept(store: TaskStore) -> list[str]:
    return [task.task_id for task in store.page(limit=100).tasks]


def test_equal_requests_wait_for_the_first_and_get_its_answer(
    service: BackgroundService, store: TaskStore, tmp_path: Path
) -> None:
    """Equal requests to another process over the same database wait, too."""
    another_store = open_store(tmp_path)
    another = service_of(another_store, tmp_path)

    async def main() -> None:
        source = Source()
        first = submit(service, source)
        await source.begun.wait()
        others = [submit(one, ready()) for one in (service, another) for _ in range(25)]
        other = submit(service, ready(), "another digest")
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in (first, *others, other))
        source.complete.set()
        views: list[TaskView] = await asyncio.gather(first, *others)
        assert {view.task_id for view in views} == set(kept(store))
        with pytest.raises(IdempotencyConflictError):
            await other

    asyncio.run(main())
    another_store.close()


def test_next_request_replaces_a_withdrawn_one(
    service: BackgroundService, store: TaskStore
) -> None:
    async def main() -> None:
        source = Source()
        source.error = PayloadTooLargeError(1, None)
        first = submit(service, source)
        await source.begun.wait()
        others = [submit(service, ready()) for _ in range(5)]
        source.complete.set()
        with pytest.raises(PayloadTooLargeError):
            await first
        views: list[TaskView] = await asyncio.gather(*others)
        assert {view.task_id for view in views} == set(kept(store))

    asyncio.run(main())


def test_first_request_that_takes_too_long_is_a_reason_to_try_again(
    service: BackgroundService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptance, "FIRST_SECONDS", 0.02)

    async def main() -> None:
        source = Source()
        first = submit(service, source)
        await source.begun.wait()
        with pytest.raises(KeyInUseError, match="send yours again"):
            await submit(service, ready())
        source.complete.set()
        await first

    asyncio.run(main())


@pytest.mark.parametrize("step", ["create", "accept"])
def test_acceptance_with_a_lost_commit_answer_is_recognised(
    service: BackgroundService, store: TaskStore, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    place: Any = store if step == "create" else acceptance
    plain = getattr(place, step)

    def lose(*args: Any) -> Any:
        plain(*args)
        raise LOST

    monkeypatch.setattr(place, step, lose)

    async def main() -> TaskView:
        view: TaskView = await submit(service, None if step == "create" else ready())
        return view

    view = asyncio.run(main())
    assert kept(store) == [view.task_id]
    assert store.shards.of_task(view.task_id)


def test_store_lost_during_an_upload_does_not_block_the_next_request(
    service: BackgroundService, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the lost request is committed, and nobody can look at it or remove it yet."""
    is_down = True
    create, get = store.create, store.get

    def down(*_: Any) -> Any:
        if is_down:
            raise LOST

    monkeypatch.setattr(store, "create", lambda *args: (create(*args), down()))
    monkeypatch.setattr(store, "get", lambda *args: down() or get(*args))
    monkeypatch.setattr(
        acceptance, "withdraw_unaccepted", lambda *args: down() or withdraw_unaccepted(*args)
    )

    async def main() -> None:
        nonlocal is_down
        with pytest.raises(StoreUnavailableError):
            await submit(service, ready())
        (lost,) = kept(store)
        again = submit(service, ready())
        await asyncio.sleep(0.03)
        assert not again.done()
        is_down = False
        view: TaskView = await again
        assert kept(store) == [view.task_id] != [lost]
        await service.close()

    asyncio.run(main())


def test_task_that_was_accepted_is_not_withdrawn_after_an_outage(
    service: BackgroundService, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client was told 503, came again, and was told that its task is accepted."""
    is_down = True
    of_task = store.shards.of_task
    forgotten: list[bool] = []

    def down(*_: Any) -> Any:
        if is_down:
            raise LOST

    def look(*args: Any) -> bool:
        forgotten.append(withdraw_unaccepted(*args))
        return forgotten[-1]

    monkeypatch.setattr(acceptance, "accept", lambda *args: (accept(*args), down()))
    monkeypatch.setattr(store.shards, "of_task", lambda *args: down() or of_task(*args))
    monkeypatch.setattr(
        acceptance,
        "withdraw_unaccepted",
        lambda *args: down() or look(*args),
    )

    async def main() -> None:
        nonlocal is_down
        with pytest.raises(StoreUnavailableError):
            await submit(service, ready())
        view: TaskView = await submit(service, ready())
        is_down = False
        await until(lambda: forgotten, "it is looked at again")
        assert forgotten == [False]
        assert kept(store) == [view.task_id]
        await service.close()

    asyncio.run(main())
