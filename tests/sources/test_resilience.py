"""sources.resilience, breaker_reports: timeouts, pauses, breakers and what they report."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import stamina
from interlock import CircuitBreaker, CircuitOpenError, State
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from hotloop.app.sources import resilience
from hotloop.app.sources.base import ItemFetchError, StageCounts
from hotloop.app.sources.breaker_reports import BreakerReport, breaker_reports, listening, record
from hotloop.app.sources.resilience import (
    TRIAL_SECONDS,
    Breaker,
    Guard,
    Policy,
    RefusedError,
    TransientError,
    breaker_of,
)
from tests.fixtures.outages import Dependency, Guarded
from tests.fixtures.waiting import until

PATIENT = Policy(timeout_seconds=30.0, attempts=4, outage_seconds=30.0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Seconds of the waits between attempts, which are made short."""
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 0.004)
    seen: list[float] = []

    def note(details: RetryDetails) -> None:
        seen.append(details.wait_for)

    set_on_retry_hooks([note])
    yield seen
    set_on_retry_hooks([])


def test_answer_is_given_and_counted() -> None:
    async def run() -> tuple[int, StageCounts]:
        guarded = Guarded()
        return await guarded.call(PATIENT), guarded.counts

    assert asyncio.run(run()) == (42, StageCounts(calls=1))


def test_failure_that_passes_is_tried_again_and_counted(waits: list[float]) -> None:
    guard, counts, calls = Guard(Breaker("thing")), StageCounts(), []

    async def third_time() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise TransientError("not yet")
        return "answer"

    assert asyncio.run(guard.call(third_time, PATIENT, counts)) == "answer"
    assert (counts.calls, counts.retries) == (3, 2)


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_failure_that_lasts_is_raised_after_all_attempts(waits: list[float], attempts: int) -> None:
    guard, counts = Guard(Breaker("thing")), StageCounts()

    async def fail() -> None:
        raise TransientError(f"failure {counts.calls}")

    policy = Policy(30.0, attempts, 30.0)
    with pytest.raises(TransientError, match=f"^failure {attempts}$"):
        asyncio.run(guard.call(fail, policy, counts))
    assert (counts.calls, counts.retries) == (attempts, attempts - 1)
    assert len(waits) == attempts - 1


def test_waits_grow_with_jitter_up_to_a_bound(waits: list[float]) -> None:
    """The failures open no breaker, because there are enough answers between them."""

    async def run() -> None:
        for _ in range(40):
            guarded = Guarded()
            guarded.dependency.up = False
            with pytest.raises(TransientError):
                await guarded.call(Policy(30.0, 4, 30.0))

    asyncio.run(run())
    by_attempt = [waits[number::3] for number in range(3)]
    for number, seen in enumerate(by_attempt):
        least = 0.001 * 2**number
        most = min(0.004, least + 0.001)
        assert all(least - 1e-9 <= wait <= most + 1e-9 for wait in seen)
    assert len(set(by_attempt[0])) > 1


def test_backoff_is_at_least_a_tenth_of_a_second_and_at_most_two() -> None:
    assert (resilience.FIRST_BACKOFF_SECONDS, resilience.LONGEST_BACKOFF_SECONDS) == (0.1, 2.0)


@pytest.mark.parametrize("error", [RefusedError("no access"), ValueError("a fault")])
def test_refusals_and_faults_come_out_at_once_and_open_nothing(error: Exception) -> None:
    breaker, counts = Breaker("thing"), StageCounts()
    guard = Guard(breaker)

    async def refuse() -> None:
        raise error

    async def run() -> None:
        for _ in range(20):
            with pytest.raises(type(error)) as caught:
                await guard.call(refuse, PATIENT, counts)
            assert caught.value is error

    asyncio.run(run())
    assert (counts.calls, counts.retries) == (20, 0)
    assert breaker.is_closed
    assert breaker.reason is None


def test_timeout_of_an_attempt_is_explained(waits: list[float]) -> None:
    cancelled: list[bool] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    guard, counts = Guard(Breaker("thing")), StageCounts()
    with pytest.raises(TransientError, match=r"^thing did not answer within 0\.01 s$"):
        asyncio.run(guard.call(hang, Policy(0.01, 3, 30.0), counts))
    assert (counts.calls, counts.retries, cancelled) == (3, 2, [True] * 3)


def test_timeout_error_of_the_operation_itself_may_pass_too(waits: list[float]) -> None:
    calls: list[int] = []

    async def slow_inside() -> str:
        calls.append(1)
        if len(calls) == 1:
            raise TimeoutError
        return "answer"

    guard = Guard(Breaker("thing"))
    assert asyncio.run(guard.call(slow_inside, PATIENT, StageCounts())) == "answer"


def test_calls_are_not_held_up_by_each_other() -> None:
    async def run() -> int:
        guarded = Guarded()
        guarded.dependency.hangs = True
        calls = [asyncio.create_task(guarded.call(PATIENT)) for _ in range(1_000)]
        await until(lambda: guarded.dependency.in_flight == 1_000, "all are in flight")
        guarded.dependency.answers.set()
        assert await asyncio.gather(*calls) == [42] * 1_000
        return guarded.dependency.most_in_flight

    assert asyncio.run(run()) == 1_000


def test_cancelled_call_makes_no_further_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 60.0)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 60.0)

    async def run() -> int:
        guarded = Guarded()
        guarded.dependency.up = False
        call = asyncio.create_task(guarded.call(PATIENT))
        dependency = guarded.dependency
        await until(lambda: dependency.calls and not dependency.in_flight, "it failed once")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        return guarded.dependency.calls

    assert asyncio.run(run()) == 1


def test_retries_write_no_line(caplog: pytest.LogCaptureFixture, waits: list[float]) -> None:
    set_on_retry_hooks([])

    async def run() -> None:
        dependency = Dependency(up=False)
        with pytest.raises(TransientError):
            await Guard(Breaker("thing")).call(dependency.ask, PATIENT, StageCounts())

    asyncio.run(run())
    assert stamina.is_active()
    assert caplog.records == []


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


def test_breaker_allows_one_call_after_a_second(clock: Clock) -> None:
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


def test_outage_lasts_from_the_first_opening_until_it_closes(clock: Clock) -> None:
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


def test_listener_is_removed_at_the_end() -> None:
    heard: list[BreakerReport] = []
    with pytest.raises(ZeroDivisionError), listening(heard.append):
        raise ZeroDivisionError
    record(BreakerReport("unheard", "open", 1, None))
    assert heard == []


def test_all_callers_get_the_same_breaker() -> None:
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
