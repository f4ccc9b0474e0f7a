"""sources.connections, sources.base: one connection for each loop, also for blocking calls."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from hotloop.app.sources import connections
from hotloop.app.sources.base import ItemBatch, ItemFetchError, Positions
from hotloop.app.sources.connections import AsyncStage, close_connections, connection, run_blocking
from tests.fixtures.real_sources import item_batch
from tests.fixtures.waiting import wait_until

NEVER = threading.Event()


@dataclass
class Opened:
    """A connection that knows its loop and how often it was closed."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    closed: int = 0

    async def close(self) -> None:
        assert asyncio.get_running_loop() is self.loop
        self.closed += 1


def test_connection_is_made_once_for_each_loop_and_key() -> None:
    async def use() -> list[Opened]:
        found = [connection(key, Opened) for key in ("a", "b", "a")]
        await close_connections()
        return found

    first, second = asyncio.run(use()), asyncio.run(use())
    for found in (first, second):
        assert found[0] is found[2]
        assert found[0] is not found[1]
        assert [opened.closed for opened in found] == [1, 1, 1]
    assert first[0] is not second[0]


def test_closed_connection_is_made_again() -> None:
    async def use() -> bool:
        first = connection("a", Opened)
        await close_connections()
        second = connection("a", Opened)
        await close_connections()
        return first is second

    assert not asyncio.run(use())


def test_connections_of_blocking_calls_are_closed_from_another_loop() -> None:
    found: list[Opened] = []

    async def use() -> None:
        found.append(connection("blocking", Opened))

    run_blocking(use(), NEVER)
    run_blocking(use(), NEVER)
    assert found[0] is found[1]
    asyncio.run(close_connections())
    assert found[0].closed == 1


def test_threads_share_one_loop_and_one_connection() -> None:
    found: set[int] = set()

    async def use() -> None:
        await asyncio.sleep(0)
        found.add(id(connection("shared", Opened)))

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(run_blocking, use(), NEVER) for _ in range(64)]:
            future.result()
    asyncio.run(close_connections())
    assert len(found) == 1
    assert [t.name for t in threading.enumerate()].count("blocking-io") == 1


@pytest.mark.parametrize(
    "error", [ItemFetchError("no row"), RuntimeError("a fault"), TimeoutError("its own")]
)
def test_error_of_the_work_comes_out(error: Exception) -> None:
    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    with pytest.raises(type(error), match=str(error)):
        run_blocking(fail(), NEVER)


def test_own_timeout_comes_out_after_checks_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STOP_CHECK_SECONDS", 0.001)

    async def fail() -> None:
        await asyncio.sleep(0.02)
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        run_blocking(fail(), NEVER)


def test_work_that_ends_during_a_check_is_no_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check every instant: each of these calls ends while one is made."""
    monkeypatch.setattr(connections, "STOP_CHECK_SECONDS", 0.0)
    done: list[int] = []

    async def work(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    for number in range(500):
        run_blocking(work(number), NEVER)
    assert done == list(range(500))


def test_stop_cancels_the_work_and_returns() -> None:
    stop, cancelled, started = threading.Event(), threading.Event(), threading.Event()

    async def wait_for_ever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    blocking = threading.Thread(target=run_blocking, args=(wait_for_ever(), stop))
    blocking.start()
    wait_until(started.is_set, "the work has begun")
    assert blocking.is_alive()
    stop.set()
    blocking.join()
    wait_until(cancelled.is_set, "the work is cancelled")


def test_work_that_ignores_its_cancellation_does_not_block() -> None:
    stop, release = threading.Event(), threading.Event()
    started = threading.Event()

    async def stubborn() -> None:
        started.set()
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    blocking = threading.Thread(target=run_blocking, args=(stubborn(), stop))
    blocking.start()
    wait_until(started.is_set, "the work has begun")
    stop.set()
    blocking.join()
    release.set()


def test_work_is_not_begun_once_stopped() -> None:
    """A batch of many groups must not wait for each of them after its run was cancelled."""
    stop, begun = threading.Event(), threading.Event()
    stop.set()

    async def work() -> None:
        begun.set()
        await asyncio.Event().wait()

    for _ in range(3):
        run_blocking(work(), stop)
    assert not begun.is_set()


def test_cancellation_elsewhere_is_not_an_answer() -> None:
    async def give_up() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ItemFetchError, match="cancelled"):
        run_blocking(give_up(), NEVER)


class Doubling(AsyncStage):
    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        await asyncio.sleep(0)
        for position in positions:
            batch.columns["offset"][position] *= 2


def test_blocking_and_asynchronous_fetch_agree() -> None:
    blocking, asynchronous = item_batch(range(4)), item_batch(range(4))
    Doubling().fetch(blocking, range(1, 3), NEVER)
    asyncio.run(Doubling().fetch_async(asynchronous, range(1, 3)))
    assert blocking.columns["offset"].tolist() == asynchronous.columns["offset"].tolist()
    assert blocking.columns["offset"][1] == 2 * blocking.columns["offset"][0]
