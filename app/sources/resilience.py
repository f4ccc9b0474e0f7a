"""Calls to a dependency that has bad days: a timeout, retries, a breaker, and patience.

    call ──> breaker closed? ──yes──> attempts: timeout, backoff with jitter, again ──> answer
                   │ no                              │ the breaker opened meanwhile
                   ▼                                 ▼
             one caller at a time tries until an answer comes or the outage has lasted
             `outage_seconds`; all others wait for it, and fail together when it is over

So a restart of the dependency costs a run its time and no item, and a dependency that is gone
holds a run once, for a bounded time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import stamina
from interlock import CircuitOpenError

from hotloop.app.sources.base import ItemFetchError, StageCounts
from hotloop.app.sources.breakers import Breaker, TransientError

T = TypeVar("T")

FIRST_BACKOFF_SECONDS: Final = 0.1
"""Doubled for each further attempt, up to the longest, with as much jitter again."""

LONGEST_BACKOFF_SECONDS: Final = 2.0

_TRIAL_IN_PROGRESS_SECONDS: Final = 0.1

# Its own hook writes a line for every retry; what is counted is in the result of the run.
stamina.instrumentation.set_on_retry_hooks([])


class SourceDownError(ItemFetchError):
    """The dependency has been down for longer than the run may wait for it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How much a call may cost before its items fail."""

    timeout_seconds: float
    """For one attempt."""
    attempts: int
    """At most, while the dependency answers others."""
    outage_seconds: float
    """How long a run waits for a dependency that is down, from when it first finds it so."""
    run: str = ""
    """Whose patience it is: each run waits anew, for another's outage may be over."""


class Guard:
    """Guards the calls that one event loop makes to one dependency."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._trying = asyncio.Lock()
        self._outage: float | None = None
        self._found: dict[str, float] = {}
        """Run to when it found the outage."""

    async def call(
        self, operation: Callable[[], Awaitable[T]], policy: Policy, counts: StageCounts
    ) -> T:
        """The answer of `operation`, which raises TransientError for what is worth another try.

        Raises that error when all attempts failed, SourceDownError, and at once whatever else
        the operation raises.
        """
        sent = 0

        async def attempt() -> T:
            nonlocal sent
            counts.calls += 1
            counts.retries += sent > 0
            sent += 1
            try:
                async with asyncio.timeout(policy.timeout_seconds):
                    return await operation()
            except TransientError as error:
                self._breaker.reason = str(error)
                raise
            except TimeoutError as error:
                text = f"{self._breaker.source} did not answer within {policy.timeout_seconds:g} s"
                self._breaker.reason = text
                raise TransientError(text) from error

        while True:
            try:
                if self._breaker.is_closed:
                    return await self._retry(attempt, policy)
                async with self._turn(policy):
                    if not self._breaker.is_closed:
                        return await self._outwait(attempt, policy)
            except CircuitOpenError:
                pass
            except TransientError:
                if self._breaker.is_closed:
                    raise

    @asynccontextmanager
    async def _turn(self, policy: Policy) -> AsyncIterator[None]:
        """The turn to try, or none where the breaker has closed. SourceDownError when patience is
        over before.
        """
        left_seconds = policy.outage_seconds - self._waited_seconds(policy)
        try:
            async with asyncio.timeout(max(0.0, left_seconds)):
                await self._trying.acquire()
        except TimeoutError:
            if not self._breaker.is_closed:
                raise self._down() from None
            yield
            return
        try:
            yield
        finally:
            self._trying.release()

    async def _retry(self, attempt: Callable[[], Awaitable[T]], policy: Policy) -> T:
        retrying = stamina.retry_context(
            on=self._is_worth_retrying,
            attempts=policy.attempts,
            timeout=None,
            wait_initial=FIRST_BACKOFF_SECONDS,
            wait_max=LONGEST_BACKOFF_SECONDS,
            wait_jitter=FIRST_BACKOFF_SECONDS,
        )
        async for one in retrying:
            with one:
                return await self._breaker.circuit.call_async(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _is_worth_retrying(self, error: Exception) -> bool:
        return isinstance(error, TransientError) and self._breaker.is_closed

    async def _outwait(self, attempt: Callable[[], Awaitable[T]], policy: Policy) -> T:
        while True:
            wait_seconds = 0.0
            try:
                return await self._breaker.circuit.call_async(attempt)
            except CircuitOpenError as refusal:
                wait_seconds = refusal.retry_after or _TRIAL_IN_PROGRESS_SECONDS
            except TransientError:
                if self._breaker.is_closed:  # by a call on another loop
                    return await self._retry(attempt, policy)
            if self._waited_seconds(policy) >= policy.outage_seconds:
                raise self._down()
            await asyncio.sleep(wait_seconds)

    def _waited_seconds(self, policy: Policy) -> float:
        """Since the run first found this outage."""
        down_since = self._breaker.down_since
        if self._outage != down_since:
            self._outage, self._found = down_since, {}
        now = time.monotonic()
        return now - self._found.setdefault(policy.run, now)

    def _down(self) -> SourceDownError:
        breaker = self._breaker
        return SourceDownError(
            f"{breaker.source} has been down for {breaker.down_seconds:.0f} s: {breaker.reason}"
        )
