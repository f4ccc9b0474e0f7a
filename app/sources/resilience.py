"""Calls to a dependency that may fail: a timeout, retries, a circuit breaker, and patience.

    call ──> breaker closed? ──yes──> attempts: timeout, backoff with jitter, again ──> answer
                   │ no                              │ the breaker opened meanwhile
                   ▼                                 ▼
             one caller at a time tries until an answer comes or the outage has lasted
             `outage_seconds`; all others wait for it, and fail together when it is over

So a restart of the dependency costs a run time but no items, and a dependency that is gone delays a
run once, for a bounded time. Each process has one breaker for each dependency: it opens when half
of the last calls failed, lets one call through after TRIAL_SECONDS, and closes when that call is
answered.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import stamina
from interlock import CircuitBreaker, CircuitOpenError, Config, State
from interlock.protocols import CoreEventListener

from hotloop.app.sources.base import ItemFetchError, StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport, record

T = TypeVar("T")

FIRST_BACKOFF_SECONDS: Final = 0.1
"""The first pause; it doubles with each attempt up to the longest, plus equally much jitter."""

LONGEST_BACKOFF_SECONDS: Final = 2.0

_TRIAL_IN_PROGRESS_SECONDS: Final = 0.1

# stamina's own hook logs every retry; retries are counted in the result of the run instead.
stamina.instrumentation.set_on_retry_hooks([])


TRIAL_SECONDS: Final = 1.0
"""Time from the opening of a breaker, or a failed trial, to the next trial."""

_CONFIG: Final = Config(
    window_size=10,
    minimum_number_of_calls=5,
    failure_rate_threshold=0.5,
    wait_duration_in_open=TRIAL_SECONDS,
    permitted_calls_in_half_open=1,
    # Slow calls are bounded by their timeout, which counts as a failure.
    slow_call_duration_threshold=86_400.0,
)


class TransientError(ItemFetchError):
    """A failure that may be temporary: no answer, a broken connection, an overloaded server."""


class RefusedError(ItemFetchError):
    """A permanent failure: no access, a wrong query, unusable data."""


_lock = threading.Lock()
_breakers: dict[tuple[str, str], Breaker] = {}


class Breaker:
    """A circuit breaker. It is thread-safe, and counts only TransientError as a failure."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.reason: str | None = None
        self._openings = 0
        self.down_since: float | None = None
        """The time.monotonic() at which this outage opened the breaker; None while closed."""
        self.circuit = CircuitBreaker(
            name=source, config=_CONFIG, classifier=_OnlyTransient(), listener=_Notifier(self)
        )

    @property
    def is_closed(self) -> bool:
        return self.circuit.state is State.CLOSED

    @property
    def down_seconds(self) -> float:
        since = self.down_since
        return 0.0 if since is None else time.monotonic() - since

    def changed(self, old: State, new: State) -> None:
        if new is State.CLOSED:
            self.down_since = None
        elif old is State.CLOSED:
            self.down_since = time.monotonic()
            self._openings += 1
        record(BreakerReport(self.source, str(new), self._openings, self.reason))


class _OnlyTransient:
    def is_failure(self, *, result: object, exception: Exception | None) -> bool:
        return isinstance(exception, TransientError)


class _Notifier(CoreEventListener):
    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def on_state_change(self, *, name: str, old: State, new: State) -> None:
        self._breaker.changed(old, new)


def breaker_of(source: str, address: str) -> Breaker:
    """Return this process's breaker for a dependency, the same for every caller."""
    with _lock:
        return _breakers.setdefault((source, address), Breaker(source))


class SourceDownError(ItemFetchError):
    """The dependency has been down for longer than the run may wait for it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds of a call, after which its items fail."""

    timeout_seconds: float
    """Timeout of one attempt."""
    attempts: int
    """The most attempts while the breaker is closed."""
    outage_seconds: float
    """Time that a run waits for a dependency that is down, from its first failed call on."""
    run: str = ""
    """Name of the run: each run has its own patience."""


class Guard:
    """Guards the calls that one event loop makes to one dependency."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._trying = asyncio.Lock()
        self._outage: float | None = None
        self._found: dict[str, float] = {}
        """The time at which each run found the outage."""

    async def call(
        self, operation: Callable[[], Awaitable[T]], policy: Policy, counts: StageCounts
    ) -> T:
        """Return the answer of `operation`, which raises TransientError if another attempt may
        succeed.

        Raises that error after the last attempt, SourceDownError, and at once any other error of
        the operation.
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
        """Hold the turn to try while the breaker is open. Raises SourceDownError if the turn does
        not come within the run's patience.
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
                if self._breaker.is_closed:  # a call on another loop closed it
                    return await self._retry(attempt, policy)
            if self._waited_seconds(policy) >= policy.outage_seconds:
                raise self._down()
            await asyncio.sleep(wait_seconds)

    def _waited_seconds(self, policy: Policy) -> float:
        """Return the time since the run first found this outage."""
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
