"""Circuit breakers: one for each dependency in each process.

A breaker opens when half of the last calls failed, lets one call through after a moment, and
closes when that is answered.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from interlock import CircuitBreaker, Config, State
from interlock.protocols import CoreEventListener

from hotloop.app.sources.base import ItemFetchError
from hotloop.app.sources.breaker_reports import BreakerReport, record

TRIAL_SECONDS: Final = 1.0
"""From the opening of a breaker, or a failed trial, to the next trial."""

_CONFIG: Final = Config(
    window_size=10,
    minimum_number_of_calls=5,
    failure_rate_threshold=0.5,
    wait_duration_in_open=TRIAL_SECONDS,
    permitted_calls_in_half_open=1,
    # How long a call may take is said by its timeout, whose passing is a failure.
    slow_call_duration_threshold=86_400.0,
)


class TransientError(ItemFetchError):
    """A failure that may pass by itself: no answer, a broken connection, an overloaded server."""


class RefusedError(ItemFetchError):
    """An answer that will be the same next time: no access, a wrong query, unusable data."""


_lock = threading.Lock()
_breakers: dict[tuple[str, str], Breaker] = {}


class Breaker:
    """Thread-safe; counts only TransientError as a failure, as any other answer is an answer."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.reason: str | None = None
        self._openings = 0
        self.down_since: float | None = None
        """When it opened for the first time after it was last closed; time.monotonic()."""
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
    """This process's breaker for a dependency, the same for every caller."""
    with _lock:
        return _breakers.setdefault((source, address), Breaker(source))
