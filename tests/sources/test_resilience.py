"""Attempts: a timeout for each, jittered waits between them, refusals never repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from hotloop.app.sources import resilience
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.resilience import Breaker, Guard, Policy, RefusedError, TransientError
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
    """Of calls whose failures open no breaker: there are enough answers between them."""

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


def test_each_attempt_has_a_timeout_in_words(waits: list[float]) -> None:
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


def test_cancelled_between_attempts_nothing_is_sent_any_more(
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
