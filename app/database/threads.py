"""Threads for the blocking calls of the task store, and for nothing else.

A database that hangs without closing its connections keeps the threads that call it. So the store
has its own threads, limited in number, which do not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

from hotloop.app.errors import StoreUnavailableError

A = TypeVar("A")
T = TypeVar("T")

THREADS: Final = 16
"""Calls that run at once; further ones wait."""

BEGIN_SECONDS: Final = 10.0
"""Longest time that a call waits for a thread before it is given up."""

END_SECONDS: Final = 120.0
"""Longest time that a call runs before it is given up, for a disk that is stalled. PostgreSQL has
shorter limits, see `hotloop.app.database.postgresql`."""

STOPPING_SECONDS: Final = 3.0
"""Limit of calls in place of both while the process stops."""

_IDLE_SECONDS: Final = 30.0


class DaemonThreads:
    """At most `most` threads, started when they are needed. The interpreter does not wait for them
    at its end, as it would for those of a ThreadPoolExecutor.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._count = 0
        self._idle = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._changed:
            self._waiting.append((future, call))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._count < self._most:
                self._count += 1
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return future

    def _work(self) -> None:
        while (taken := self._next()) is not None:
            future, call = taken
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del taken, future, call  # or an idle thread would hold its last result

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._idle += 1
            try:
                if not self._changed.wait_for(lambda: bool(self._waiting), _IDLE_SECONDS):
                    self._count -= 1
                    return None
                return self._waiting.popleft()
            finally:
                self._idle -= 1


class StoreThreads:
    """Makes blocking calls for one event loop, each with a deadline. The loop calls all methods."""

    def __init__(self, most: int = THREADS, name: str = "hotloop-store") -> None:
        self._threads = DaemonThreads(most, name)
        self._calls: dict[asyncio.Future[Any], Future[Any]] = {}
        """Calls in progress: the answer on the loop, and the one in the thread."""
        self._timers: dict[asyncio.Future[Any], asyncio.TimerHandle] = {}
        self._is_stopping = False
        self.hangs = False
        """True once a call was given up while the process stops: then no more calls are made."""

    async def run(self, call: Callable[[], T]) -> T:
        """Make the call in a thread. Raises what the call raises, and StoreUnavailableError when it
        does not begin or end in time; a call that has begun may still do its work.
        """
        return await self.submit(call)

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Do the same as `run`, and return its future at once."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        if self.hangs:
            answer.set_exception(_unavailable())
            return answer
        made = self._threads.submit(partial(contextvars.copy_context().run, call))
        self._calls[answer] = made
        if self._is_stopping:
            timer = loop.call_later(STOPPING_SECONDS, self._notice_hanging, answer)
        else:
            first = min(BEGIN_SECONDS, END_SECONDS)
            timer = loop.call_later(first, self._give_up_waiting, answer)
        self._timers[answer] = timer
        answer.add_done_callback(self._ended)
        made.add_done_callback(partial(_tell, loop, answer))
        return answer

    def _ended(self, answer: asyncio.Future[Any]) -> None:
        self._calls.pop(answer).cancel()
        self._timers.pop(answer).cancel()

    def hurry(self) -> None:
        """Wait at most STOPPING_SECONDS for any call from now on, as the process stops. Once a call
        that begins from now on takes longer, no other one is made at all.
        """
        if self._is_stopping:
            return
        self._is_stopping = True
        loop = asyncio.get_running_loop()
        for answer in self._calls:
            loop.call_later(STOPPING_SECONDS, self._give_up, answer)

    def _notice_hanging(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            self.hangs = True
            for each in list(self._calls):
                self._give_up(each)

    def _give_up_waiting(self, answer: asyncio.Future[Any]) -> None:
        if answer.done():
            return
        if self._calls[answer].cancel():
            answer.set_exception(_unavailable())
            return
        left = max(0.0, END_SECONDS - BEGIN_SECONDS)
        self._timers[answer] = answer.get_loop().call_later(left, self._give_up, answer)

    def _give_up(self, answer: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_exception(_unavailable())


def _unavailable() -> StoreUnavailableError:
    return StoreUnavailableError("the task store does not answer; check its database and its disk")


def _tell(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], made: Future[T]) -> None:
    """Hand the answer over to the loop; called in the thread."""
    if not made.cancelled():
        with suppress(RuntimeError):  # the loop is closed, and nothing waits any more
            loop.call_soon_threadsafe(_settle, answer, made)


def _settle(answer: asyncio.Future[T], made: Future[T]) -> None:
    if answer.done():
        return
    error = made.exception()
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(made.result())


class Groups(Generic[A]):
    """Makes calls that block on the store for many arguments at once: what comes while a call is
    made goes with the next one.

    A transaction for a group, which is written through to the disk once, costs little more than one
    for a single argument.
    """

    def __init__(self, call: Callable[[Sequence[A]], Sequence[Exception | None]]) -> None:
        """`call` returns for each argument why it failed; None if it did not."""
        self._call = call
        self._waiting: list[tuple[A, asyncio.Future[None]]] = []
        self._making: asyncio.Future[Sequence[Exception | None]] | None = None

    def __len__(self) -> int:
        """Return the number of arguments that wait."""
        return len(self._waiting)

    def add(self, argument: A) -> asyncio.Future[None]:
        """Return a future that is done once a call was made with the argument. It raises the reason
        of a failure, and what `StoreThreads.run` raises.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((argument, done))
        if self._making is None:
            self._make()
        return done

    def _make(self) -> None:
        group, self._waiting = self._waiting, []
        call = partial(self._call, [argument for argument, _ in group])
        self._making = store_threads().submit(call)
        self._making.add_done_callback(partial(self._made, [done for _, done in group]))

    def _made(
        self, group: Sequence[asyncio.Future[None]], making: asyncio.Future[Sequence[Any]]
    ) -> None:
        error = making.exception()
        reasons = making.result() if error is None else [error] * len(group)
        for done, reason in zip(group, reasons, strict=True):
            if done.done():
                continue
            if reason is None:
                done.set_result(None)
            else:
                done.set_exception(reason)
        self._making = None
        if self._waiting:
            self._make()

    async def close(self) -> None:
        """Return once nothing waits any more."""
        while self._making is not None:
            await asyncio.wait((self._making,))


class _OfLoop(threading.local):
    """The event loop that ran last in this thread, and its store threads."""

    loop: asyncio.AbstractEventLoop | None = None
    threads: StoreThreads


_of_loop: Final = _OfLoop()


def new_store_threads() -> StoreThreads:
    """Make new threads for the running event loop, in place of an earlier service's threads."""
    _of_loop.loop, _of_loop.threads = asyncio.get_running_loop(), StoreThreads()
    return _of_loop.threads


def store_threads() -> StoreThreads:
    """Return the threads of the running event loop."""
    if _of_loop.loop is not asyncio.get_running_loop():
        return new_store_threads()
    return _of_loop.threads


async def in_store_thread(call: Callable[..., T], *args: Any, **keywords: Any) -> T:
    """Make a call that blocks on the task store, as `asyncio.to_thread` would, in the store's own
    threads. Raises what the call raises, and StoreUnavailableError as `StoreThreads.run`.
    """
    return await store_threads().run(partial(call, *args, **keywords))
