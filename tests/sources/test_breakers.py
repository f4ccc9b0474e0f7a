"""When breakers open, half-open and close, and what they report meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from interlock import CircuitBreaker, CircuitOpenError, State

from hotloop.app.sources import resilience
from hotloop.app.sources.base import ItemFetchError
from hotloop.app.sources.breaker_reports import BreakerReport, breaker_reports, listening, record
from hotloop.app.sources.resilience import (
    TRIAL_SECONDS,
    Breaker,
    RefusedError,
    TransientError,
    breaker_of,
)


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of breakers made from now on, and of how long they are down."""
    clock = Clock()

    def with_clock(**fields: object) -> CircuitBreaker:
        return CircuitBreaker(clock=clock, **fields)  # type: ignore[arg-type]

    monkeypatch.setattr(resilience, "CircuitBreaker", with_clock)
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def heard() -> Iterator[list[BreakerReport]]:
    reports: list[BreakerReport] = []
    with listening(reports.append):
        yield reports


def call(breaker: Breaker, error: Exception | None = None) -> None:
    def operation() -> None:
        if error is not None:
            breaker.reason = str(error)
            raise error

    with nullcontext() if error is None else pytest.raises(type(error)):
        breaker.circuit.call_sync(operation)


def test_opens_when_half_of_the_last_ten_failed_and_five_were_made(clock: Clock) -> None:
    breaker = Breaker("thing")
    for _ in range(4):
        call(breaker, TransientError("off"))
    assert breaker.is_closed
    call(breaker, TransientError("off"))
    assert breaker.circuit.state is State.OPEN
    assert not breaker.is_closed


def test_does_not_open_when_most_are_answered(clock: Clock) -> None:
    breaker = Breaker("thing")
    for _ in range(50):
        call(breaker)
        call(breaker)
        call(breaker, TransientError("off"))
    assert breaker.is_closed


def test_old_answers_are_forgotten(clock: Clock) -> None:
    breaker = Breaker("thing")
    for _ in range(1_000):
        call(breaker)
    for _ in range(5):
        call(breaker, TransientError("off"))
    assert not breaker.is_closed


@pytest.mark.parametrize(
    "error", [RefusedError("no access"), ItemFetchError("no row"), ValueError("a fault")]
)
def test_other_errors_are_answers(clock: Clock, error: Exception) -> None:
    breaker = Breaker("thing")
    for _ in range(50):
        call(breaker, error)
    assert breaker.is_closed


def test_slow_calls_are_no_failures(clock: Clock) -> None:
    breaker = Breaker("thing")

    def slow() -> None:
        clock.now += 3_600

    for _ in range(50):
        breaker.circuit.call_sync(slow)
    assert breaker.is_closed


def opened(clock: Clock) -> Breaker:
    breaker = Breaker("thing")
    for _ in range(5):
        call(breaker, TransientError("off"))
    return breaker


def test_one_call_is_let_through_after_a_second(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += TRIAL_SECONDS - 0.01
    with pytest.raises(CircuitOpenError) as caught:
        call(breaker)
    assert caught.value.retry_after == pytest.approx(0.01)
    clock.now += 0.01

    def trial() -> None:
        assert breaker.circuit.state is State.HALF_OPEN
        with pytest.raises(CircuitOpenError) as refused:
            call(breaker)
        assert refused.value.retry_after is None

    breaker.circuit.call_sync(trial)
    assert breaker.is_closed


def test_failed_trial_opens_it_for_another_second(clock: Clock) -> None:
    breaker = opened(clock)
    for _ in range(3):
        clock.now += TRIAL_SECONDS
        call(breaker, TransientError("still off"))
        assert breaker.circuit.state is State.OPEN
        with pytest.raises(CircuitOpenError):
            call(breaker)


def test_down_since_the_first_opening_until_it_closes(clock: Clock) -> None:
    breaker = opened(clock)
    assert breaker.down_seconds == 0
    for _ in range(3):
        clock.now += 2
        call(breaker, TransientError("still off"))
    assert breaker.down_seconds == 6
    clock.now += 2
    call(breaker)
    assert breaker.down_seconds == 0
    clock.now += 2
    assert breaker.down_seconds == 0


def test_every_change_is_reported_with_its_reason(clock: Clock, heard: list[BreakerReport]) -> None:
    breaker = opened(clock)
    clock.now += TRIAL_SECONDS
    call(breaker, TransientError("still off"))
    clock.now += TRIAL_SECONDS
    call(breaker)
    for _ in range(5):
        call(breaker, TransientError("off again"))
    told = [(r.source, r.state, r.openings, r.reason) for r in heard]
    assert told == [
        ("thing", "open", 1, "off"),
        ("thing", "half_open", 1, "off"),
        ("thing", "open", 1, "still off"),
        ("thing", "half_open", 1, "still off"),
        ("thing", "closed", 1, "still off"),
        ("thing", "open", 2, "off again"),
    ]
    assert heard[-1] in breaker_reports()


def test_last_report_of_each_source_is_kept(heard: list[BreakerReport]) -> None:
    reports = [
        BreakerReport("kept-a", "open", 1, "off"),
        BreakerReport("kept-b", "open", 1, None),
        BreakerReport("kept-a", "closed", 1, "off"),
    ]
    for report in reports:
        record(report)
    assert heard == reports
    assert [r for r in breaker_reports() if r.source.startswith("kept-")] == [
        reports[2],
        reports[1],
    ]


def test_nobody_listens_afterwards() -> None:
    heard: list[BreakerReport] = []
    with pytest.raises(ZeroDivisionError), listening(heard.append):
        raise ZeroDivisionError
    record(BreakerReport("unheard", "open", 1, None))
    assert heard == []


def test_breaker_is_the_same_for_all_who_ask() -> None:
    found: list[Breaker] = []
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(breaker_of("thing", "somewhere"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    assert breaker_of("thing", "elsewhere") is not found[0]
    assert breaker_of("other", "somewhere") is not found[0]
