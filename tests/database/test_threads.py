"""The threads of the task store: a call that hangs delays no other, and not the process's end."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from hotloop.app.database import threads as threads_module
from hotloop.app.database.threads import StoreThreads, in_store_thread, store_threads
from hotloop.app.errors import StoreUnavailableError
from tests.fixtures.waiting import until

HANGS_AT_THE_END = """
import asyncio, threading
from hotloop.app.database.threads import in_store_thread

async def main():
    hanging = asyncio.create_task(in_store_thread(threading.Event().wait))
    await asyncio.sleep(0.1)
    hanging.cancel()

asyncio.run(main())
print("ended")
"""


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """Calls wait for this; set at the end of the test."""
    event = threading.Event()
    yield event
    event.set()


async def hanging(
    threads: StoreThreads, hang: threading.Event, count: int
) -> list[asyncio.Task[bool]]:
    """Start this many calls that hang, and wait until all have begun."""
    begun = threading.Semaphore(0)

    def call() -> bool:
        begun.release()
        return hang.wait()

    calls = [asyncio.create_task(threads.run(call)) for _ in range(count)]
    for _ in range(count):
        await until(lambda: begun.acquire(blocking=False), "the calls have begun")
    return calls


def test_call_gives_its_result_its_error_and_the_context_of_its_caller() -> None:
    known = contextvars.ContextVar("known", default="nothing")

    def fail(text: str) -> None:
        raise ValueError(text)

    async def main() -> None:
        known.set("the caller's")
        assert await in_store_thread(known.get) == "the caller's"
        with pytest.raises(ValueError, match="wrong"):
            await in_store_thread(fail, text="wrong")
        name = await in_store_thread(lambda: threading.current_thread().name)
        assert name == "hotloop-store"

    asyncio.run(main())


def test_hanging_calls_leave_the_threads_of_everything_else_alone(hang: threading.Event) -> None:
    async def main() -> None:
        calls = await hanging(store_threads(), hang, threads_module.THREADS)
        assert await asyncio.to_thread(lambda: "answers") == "answers"
        hang.set()
        assert all(await asyncio.gather(*calls))

    asyncio.run(main())


def test_call_that_finds_no_thread_is_not_made(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = threading.Event()

    async def main() -> None:
        threads = StoreThreads(2)
        calls = await hanging(threads, hang, 2)
        monkeypatch.setattr(threads_module, "BEGIN_SECONDS", 0.01)
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            await threads.run(made.set)
        hang.set()
        await asyncio.gather(*calls)
        await threads.run(lambda: None)

    asyncio.run(main())
    assert not made.is_set()


def test_call_that_does_not_end_is_given_up(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads_module, "END_SECONDS", 0.01)
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        asyncio.run(in_store_thread(hang.wait))


def test_process_that_stops_waits_for_one_hanging_call_and_makes_no_other(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads_module, "STOPPING_SECONDS", 0.05)

    async def main() -> None:
        threads = StoreThreads()
        before = await hanging(threads, hang, 1)
        threads.hurry()
        with pytest.raises(StoreUnavailableError):
            await threads.run(hang.wait)
        with pytest.raises(StoreUnavailableError):
            await before[0]
        assert threads.hangs
        with pytest.raises(StoreUnavailableError):
            await threads.run(lambda: pytest.fail("it was made"))

    asyncio.run(main())


def test_process_that_stops_makes_calls_while_the_store_answers(
    hang: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow call from before the stop does not count as a hanging store."""
    monkeypatch.setattr(threads_module, "STOPPING_SECONDS", 0.05)

    async def main() -> None:
        threads = StoreThreads()
        (before,) = await hanging(threads, hang, 1)
        threads.hurry()
        with pytest.raises(StoreUnavailableError):
            await before
        assert await threads.run(lambda: "answers") == "answers"

    asyncio.run(main())


def test_process_ends_while_a_call_hangs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS_AT_THE_END], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr


def test_many_calls_are_all_made_by_few_threads() -> None:
    names: set[int] = set()

    def call(number: int) -> int:
        names.add(threading.get_ident())
        time.sleep(0.0001)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(in_store_thread(call, number) for number in range(500)))

    assert asyncio.run(main()) == list(range(500))
    assert len(names) <= threads_module.THREADS
