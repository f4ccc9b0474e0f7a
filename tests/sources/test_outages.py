"""sources.resilience: callers of a dependency that is down wait together, within a bound."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from hotloop.app.sources import resilience
from hotloop.app.sources.base import StageCounts
from hotloop.app.sources.resilience import (
    Guard,
    Policy,
    RefusedError,
    SourceDownError,
    TransientError,
)
from tests.fixtures.outages import Guarded, cancelled, try_again_soon
from tests.fixtures.waiting import in_loop, until

PATIENT = Policy(timeout_seconds=30.0, attempts=3, outage_seconds=30.0, run="a")
HASTY = replace(PATIENT, outage_seconds=0.05)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    try_again_soon(monkeypatch)
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 0.002)


@in_loop
async def test_restart_fails_no_call() -> None:
    """More callers than anybody has, most of whom have used up their attempts meanwhile."""
    guarded = Guarded()
    guarded.dependency.up = False
    calls = [asyncio.create_task(guarded.call(PATIENT)) for _ in range(2_000)]
    await until(lambda: guarded.breaker.down_seconds > 0.05, "there were some trials")
    assert not any(call.done() for call in calls)
    guarded.dependency.most_in_flight = 0
    guarded.dependency.up = True
    assert await asyncio.gather(*calls) == [42] * 2_000
    assert guarded.breaker.is_closed
    assert guarded.breaker.down_seconds == 0
    assert guarded.counts.calls == guarded.dependency.calls
    # Everybody's first call, the trials in between, and everybody's answer.
    assert guarded.dependency.calls < 4_000 + 500
    # Side by side again, and not one after another.
    assert guarded.dependency.most_in_flight > 1


@in_loop
async def test_one_caller_tries_while_all_others_wait() -> None:
    guarded = Guarded()
    await guarded.switch_off(PATIENT)
    guarded.dependency.most_in_flight = 0
    calls = [asyncio.create_task(guarded.call(PATIENT)) for _ in range(100)]
    before = guarded.dependency.calls
    await until(lambda: guarded.dependency.calls >= before + 3, "there were three trials")
    assert guarded.dependency.most_in_flight == 1
    await cancelled(calls)


def test_trials_do_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn of the loop for each trial and sleep, not one for each instant of the outage."""
    try_again_soon(monkeypatch, 0.05)

    async def run() -> int:
        guarded = Guarded()
        await guarded.switch_off(PATIENT)
        loop = asyncio.get_running_loop()
        sleeps: list[float] = []
        original = asyncio.sleep

        async def counted(seconds: float) -> None:
            sleeps.append(seconds)
            await original(seconds)

        monkeypatch.setattr(asyncio, "sleep", counted)
        call = loop.create_task(guarded.call(PATIENT))
        before = guarded.dependency.calls
        while guarded.dependency.calls < before + 3:
            await original(0.001)
        monkeypatch.undo()
        await cancelled([call])
        return len(sleeps)

    assert asyncio.run(run()) <= 20


@pytest.mark.parametrize("who", ["trying", "sleeping", "waiting", "all"])
@in_loop
async def test_cancelling_in_any_phase_leaves_other_callers_going(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if who == "sleeping":
        try_again_soon(monkeypatch, 0.2)
    guarded = Guarded()
    await guarded.switch_off(PATIENT)
    guarded.dependency.hangs = who != "sleeping"
    calls = [asyncio.create_task(guarded.call(PATIENT)) for _ in range(20)]
    if who != "sleeping":
        await until(lambda: guarded.dependency.in_flight, "a trial is in progress")
    else:
        await asyncio.sleep(0)
    victims = {"waiting": calls[5:15], "all": calls}.get(who, calls[:1])
    await cancelled(victims)
    guarded.dependency.up = True
    guarded.dependency.hangs = False
    guarded.dependency.answers.set()
    rest = [call for call in calls if call not in victims]
    assert await asyncio.gather(*rest) == [42] * len(rest)
    assert await guarded.call(PATIENT) == 42
    assert guarded.breaker.is_closed


@in_loop
async def test_refusal_is_an_answer_that_ends_an_outage() -> None:
    guarded = Guarded()
    await guarded.switch_off(PATIENT)

    async def refuse() -> int:
        raise RefusedError("no access")

    with pytest.raises(RefusedError):
        await guarded.guard.call(refuse, PATIENT, StageCounts())
    assert guarded.breaker.is_closed


@in_loop
async def test_call_that_fails_beside_a_closed_breaker_has_its_attempts() -> None:
    """A call on another loop may have closed it while this one was trying."""
    guarded = Guarded()
    await guarded.switch_off(PATIENT)
    calls: list[int] = []

    async def close_and_fail() -> int:
        calls.append(1)
        guarded.breaker.circuit.reset()
        raise TransientError("fails all the same")

    with pytest.raises(TransientError, match="fails all the same"):
        await guarded.guard.call(close_and_fail, PATIENT, StageCounts())
    assert len(calls) == 1 + PATIENT.attempts


@in_loop
async def test_failure_that_opens_the_breaker_waits_for_a_trial_and_not_for_its_next_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 3_600.0)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 3_600.0)
    guarded = Guarded()
    guarded.dependency.up = False
    calls = [asyncio.create_task(guarded.call(PATIENT)) for _ in range(5)]
    await until(lambda: not guarded.breaker.is_closed, "the breaker is open")
    guarded.dependency.up = True
    await until(lambda: any(call.done() for call in calls), "one is answered")
    await cancelled(calls)


def test_guards_of_two_loops_share_the_breaker() -> None:
    guarded = Guarded()
    asyncio.run(guarded.switch_off(PATIENT))
    other = Guard(guarded.breaker)
    guarded.dependency.up = True
    assert asyncio.run(other.call(guarded.dependency.ask, PATIENT, StageCounts())) == 42
    assert guarded.breaker.is_closed


@in_loop
async def test_hanging_dependency_opens_the_breaker_too() -> None:
    guarded = Guarded()
    guarded.dependency.hangs = True
    policy = replace(HASTY, timeout_seconds=0.01)
    ended = await asyncio.gather(*(guarded.call(policy) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in ended} == {SourceDownError}
    assert all("thing did not answer within 0.01 s" in str(error) for error in ended)


@in_loop
async def test_all_fail_together_when_patience_is_over_and_fast_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try_again_soon(monkeypatch, 0.2)
    guarded = Guarded()
    guarded.dependency.up = False
    calls = [guarded.call(HASTY) for _ in range(1_000)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in ended} == {SourceDownError}
    text = re.compile(r"thing has been down for \d+ s: it is off")
    assert all(text.fullmatch(str(error)) for error in ended)
    sent = guarded.dependency.calls
    for _ in range(500):
        with pytest.raises(SourceDownError, match="it is off"):
            await guarded.call(HASTY)
    # Each at once: hardly a trial among them.
    assert guarded.dependency.calls - sent < 100


@in_loop
async def test_impatient_run_fails_as_soon_as_the_breaker_opens() -> None:
    guarded = Guarded()
    guarded.dependency.up = False
    policy = replace(PATIENT, outage_seconds=0)
    ended = await asyncio.gather(*(guarded.call(policy) for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in ended} == {SourceDownError}


@in_loop
async def test_after_the_outage_everything_is_as_before() -> None:
    guarded = Guarded()
    await guarded.switch_off(HASTY)
    with pytest.raises(SourceDownError):
        await guarded.call(HASTY)
    guarded.dependency.up = True
    answered = 0
    while not answered:
        try:
            answered = await guarded.call(HASTY)
        except SourceDownError:
            await asyncio.sleep(0.001)
    assert guarded.breaker.is_closed
    # And the same run waits for the next outage anew.
    await guarded.switch_off(HASTY)
    before = guarded.dependency.calls
    with pytest.raises(SourceDownError):
        await guarded.call(HASTY)
    assert guarded.dependency.calls > before + 1


@in_loop
async def test_next_run_waits_anew_for_an_outage_that_another_gave_up() -> None:
    """The outage may be over: a first failing call must not fail all other calls."""
    guarded = Guarded()
    await guarded.switch_off(HASTY)
    with pytest.raises(SourceDownError):
        await guarded.call(HASTY)
    await until(lambda: guarded.breaker.down_seconds > 1, "it is down for long")
    guarded.dependency.up = guarded.dependency.hangs = True
    following = replace(PATIENT, run="b", outage_seconds=1)
    calls = [asyncio.create_task(guarded.call(following)) for _ in range(50)]
    await until(lambda: guarded.dependency.in_flight, "one of them tries")
    await asyncio.sleep(0.02)
    guarded.dependency.hangs = False
    guarded.dependency.answers.set()
    assert await asyncio.gather(*calls) == [42] * 50


@in_loop
async def test_trial_in_progress_delays_no_caller_beyond_its_patience() -> None:
    """Neither those who came before it nor those who come after."""
    guarded = Guarded()
    await guarded.switch_off(HASTY)
    guarded.dependency.hangs = True
    trying = asyncio.create_task(guarded.call(HASTY))
    await until(lambda: guarded.dependency.in_flight, "a trial is in progress")
    before = [asyncio.create_task(guarded.call(HASTY)) for _ in range(50)]
    ended = await asyncio.gather(*before, return_exceptions=True)
    assert {type(error) for error in ended} == {SourceDownError}
    with pytest.raises(SourceDownError):
        await guarded.call(HASTY)
    assert guarded.dependency.in_flight == 1
    assert not trying.done()
    guarded.dependency.up = True
    guarded.dependency.answers.set()
    assert await trying == 42


@in_loop
async def test_waiter_whose_patience_ends_after_the_outage_goes_on() -> None:
    """Thousands that wait take their time to go on; here it is a trial that holds the turn."""
    guarded = Guarded()
    await guarded.switch_off(HASTY)
    guarded.dependency.hangs = True
    trying = asyncio.create_task(guarded.call(HASTY))
    await until(lambda: guarded.dependency.in_flight, "a trial is in progress")
    waiting = asyncio.create_task(guarded.call(HASTY))
    await asyncio.sleep(0)
    guarded.dependency.up = True
    guarded.dependency.hangs = False
    guarded.breaker.circuit.reset()
    assert await waiting == 42
    await cancelled([trying])
