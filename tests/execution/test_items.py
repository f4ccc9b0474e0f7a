"""The items of a background task: brought once, checked, held, and made anew when damaged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hotloop.app.disk import file_sha256
from hotloop.app.errors import BadRowError, StoreError
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.items import items_of
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.messages import IngestCommand
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items
from hotloop.app.sources.item_file import new_item_file
from hotloop.app.sources.rows import CSV, ingest
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.spec import InputKind, input_spec
from hotloop.app.tasks.store import TaskStore, open_store

TASK = "task_0123abcd_1700000000"
COUNT = 2_000


class World:
    """A data folder and a database, which has the items as well if it is `shared`."""

    def __init__(self, path: Path, kind: InputKind, *, shared: bool) -> None:
        self.folder = DataFolder(path / "node")
        self.store: TaskStore = open_store(path)
        self.fetched = 0
        self.ingested = 0
        source = path / "source"
        if kind is InputKind.UPLOAD:
            rows = "".join(f"{i},{i / 2},{i * 3}\n" for i in range(COUNT))
            source.write_text(f"item_id,value,offset\n{rows}")
            self.path = self.folder.upload_path(TASK)
        else:
            ids = np.arange(COUNT)
            with new_item_file(source, "loops") as writer:
                writer.append(ids, {"value": ids / 2, "offset": ids * 3})
            self.path = self.folder.items_path(TASK)
        self.task = Task(
            task_id=TASK,
            task_type="background",
            spec={"input": input_spec(kind, CSV)},
            workload="loops",
            kernel="python",
            strategy="sequential",
            total_items=COUNT,
            created_at=datetime(2024, 1, 1, tzinfo=UTC),
            owner="1:1.0",
            input_sha256=file_sha256(source),
        )
        self.store.create(self.task)
        if shared:
            self.store.inputs.save(TASK, source)
        else:
            source.rename(self.path)
        self._fetch = self.store.inputs.fetch
        self.store.inputs.fetch = self.counted_fetch  # type: ignore[method-assign]

    def counted_fetch(self, task_id: str, path: Path, sha256: str | None) -> bool:
        found = self._fetch(task_id, path, sha256)
        self.fetched += found
        return found

    async def ingest(self, command: IngestCommand) -> int:
        """Read the upload in this process, as a run host does."""
        self.ingested += 1
        fields = command.upload_path, command.media_type, command.items_path, command.workload
        return await asyncio.to_thread(ingest, *fields, command.max_rows, command.sha256)

    def items(self, rows: tuple[int, int] | None = None) -> Any:
        context = SimpleNamespace(folder=self.folder, store=self.store, settings=Settings())
        client = cast(RunHostClient, self)
        return items_of(cast(RunContext, context), client, self.task, rows)

    def flip(self, path: Path, offset: int = -40_000) -> None:
        content = bytearray(path.read_bytes())
        content[offset] ^= 1
        path.write_bytes(content)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(kind: InputKind, *, shared: bool) -> World:
        made.append(World(tmp_path, kind, shared=shared))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def check(items: Items) -> None:
    batch = items.load("loops", 0, COUNT)
    np.testing.assert_array_equal(batch.item_ids, np.arange(COUNT))
    np.testing.assert_array_equal(batch.columns["offset"], np.arange(COUNT) * 3)


KINDS = pytest.mark.parametrize("kind", [InputKind.ITEMS, InputKind.UPLOAD])


@KINDS
def test_executions_of_one_task_fetch_its_items_once(
    world: Callable[..., World], kind: InputKind
) -> None:
    made = world(kind, shared=True)

    async def execute() -> None:
        async with made.items() as items:
            check(items)

    async def all_at_once() -> None:
        await asyncio.gather(*(execute() for _ in range(8)))

    in_loop(all_at_once())
    assert made.fetched == 1
    assert made.ingested == (kind is InputKind.UPLOAD)
    assert [path.name for path in (made.folder.items_path(TASK).parent).iterdir()] == [
        f"{TASK}.items.npy"
    ]


@KINDS
def test_damaged_items_are_fetched_anew(world: Callable[..., World], kind: InputKind) -> None:
    made = world(kind, shared=True)

    async def work() -> None:
        async with made.items() as items:
            made.flip(made.folder.items_path(TASK))
            with pytest.raises(StoreError, match="do not match their checksums"):
                check(items)
        async with made.items() as items:
            check(items)
        os.truncate(made.folder.items_path(TASK), 5_000)
        async with made.items() as items:
            check(items)

    in_loop(work())
    assert made.fetched == 3


def test_damaged_upload_is_fetched_anew(world: Callable[..., World]) -> None:
    made = world(InputKind.UPLOAD, shared=True)

    async def work() -> None:
        made.store.inputs.fetch(TASK, made.path, None)
        made.flip(made.path, 100)
        async with made.items() as items:
            check(items)

    in_loop(work())
    assert (made.fetched, made.ingested) == (2, 2)


@KINDS
def test_damaged_items_without_a_copy_fail_with_the_reason(
    world: Callable[..., World], kind: InputKind
) -> None:
    made = world(kind, shared=False)

    async def work() -> None:
        made.flip(made.path, 200 if kind is InputKind.UPLOAD else -40_000)
        with pytest.raises(StoreError, match=r"gone or damaged.* send the request again"):
            await made.items().__aenter__()

    in_loop(work())


def test_flipped_bit_in_an_upload_is_damage_not_a_bad_row(world: Callable[..., World]) -> None:
    made = world(InputKind.UPLOAD, shared=False)

    async def work() -> None:
        content = made.path.read_bytes()
        made.path.write_bytes(content[:-3] + b"x" + content[-2:])
        with pytest.raises(StoreError) as caught:
            await made.items().__aenter__()
        assert not isinstance(caught.value, BadRowError)

    in_loop(work())


def test_execution_needs_only_its_own_rows_to_be_whole(world: Callable[..., World]) -> None:
    made = world(InputKind.ITEMS, shared=False)

    async def work() -> None:
        made.flip(made.path, -20)  # of the last row
        async with made.items((0, 10)) as items:
            assert items.load("loops", 0, 10).item_ids[9] == 9

    in_loop(work())


def test_items_in_use_are_not_swept(world: Callable[..., World]) -> None:
    made = world(InputKind.ITEMS, shared=True)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(made.items())
            async with made.items():
                pass
            assert made.folder.sweep(lambda _: ()) == []
        assert made.folder.sweep(lambda _: ()) == [f"{TASK}.items.npy"]
        async with made.items() as items:
            check(items)

    in_loop(work())


def test_items_of_the_first_versions_get_checksums(world: Callable[..., World]) -> None:
    """Stores of that version kept no digest either."""
    made = world(InputKind.ITEMS, shared=False)
    object.__setattr__(made.task, "input_sha256", None)

    async def work() -> None:
        complete = made.path.read_bytes()
        made.path.write_bytes(complete[: -3 * 4])
        async with made.items() as items:
            check(items)
        assert made.path.read_bytes() == complete

    in_loop(work())
