"""The bound on the bytes that the tasks of one client may store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from hotloop.app.errors import ClientStorageError
from hotloop.app.execution.client_limits import ClientStorage


class Stored:
    """A store that gives fixed answers and counts how often it was asked."""

    def __init__(self) -> None:
        self.bytes: Counter[str | None] = Counter()
        self.asked = 0

    def __call__(self, client: str | None) -> int:
        self.asked += 1
        return self.bytes[client]


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.fixture
def storage(stored: Stored) -> ClientStorage:
    return ClientStorage(stored, 100)


def test_task_that_exceeds_the_bound_is_refused_with_the_way_out(
    stored: Stored, storage: ClientStorage
) -> None:
    stored.bytes["a"] = 60
    storage.check("a", 40)
    with pytest.raises(ClientStorageError) as caught:
        storage.check("a", 41)
    text = str(caught.value)
    assert "take 60 bytes, and this one needs 41; at most 100 may be stored" in text
    assert "Delete finished tasks" in text
    assert "HOTLOOP_CLIENT_STORED_BYTES" in text
    storage.check("b", 100)


def test_accepted_bytes_count_before_the_store_is_read_again(
    stored: Stored, storage: ClientStorage
) -> None:
    for _ in range(10):
        storage.check(None, 10)
    assert stored.asked == 1
    stored.bytes[None] = 100
    with pytest.raises(ClientStorageError):
        storage.check(None, 1)


def test_client_that_has_deleted_tasks_is_not_refused(
    stored: Stored, storage: ClientStorage
) -> None:
    stored.bytes["a"] = 100
    with pytest.raises(ClientStorageError):
        storage.check("a", 1)
    stored.bytes["a"] = 0
    storage.check("a", 100)


def test_uploads_that_come_in_count_as_they_come(stored: Stored, storage: ClientStorage) -> None:
    stored.bytes["a"] = 50

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 10

    async def receive(client: str) -> int:
        with storage.receiving(client, chunks()) as bounded:
            return sum([len(chunk) async for chunk in bounded])

    async def two_at_once() -> None:
        with storage.receiving("a", chunks()) as first:
            assert len([chunk async for chunk in first]) == 4
            with pytest.raises(ClientStorageError, match="take 90 bytes, and this one needs 11"):
                storage.check("a", 11)
            with pytest.raises(ClientStorageError, match="take 110 bytes"):
                await receive("a")
            assert await receive("b") == 40
            # What was refused counts no more.
            storage.check("a", 10)

    asyncio.run(two_at_once())
    stored.bytes["a"] = 0
    storage.check("a", 100)
