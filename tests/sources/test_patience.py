"""sources.resilience: each run waits once for a dependency that is down, and never for ever."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest

from hotloop.app.sources import resilience
from hotloop.app.sources.resilience import Policy, SourceDownError
from tests.fixtures.outages import Guarded, cancelled, try_again_soon
from tests.fixtures.waiting import until

PATIENT = Policy(timeout_seconds=30.0, attempts=3, outage_seconds=30.0, run="a")
HASTY = replace(PATIENT, outage_seconds=0.05)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    try_again_soon(monkeypatch)
    monkeypatch.setattr(resilience, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(resilience, "LONGEST_BACKOFF_SECONDS", 0.002)


def test_all_fail_together_when_patience_is_over_and_fast_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try_again_soon(monkeypatch, 0.2)

    async def run() -> None:
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

    asyncio.run(run())


def test_impatient_run_fails_as_soon_as_the_breaker_opens() -> None:
    async def run() -> None:
        guarded = Guarded()
        guarded.dependency.up = False
        policy = replace(PATIENT, outage_seconds=0)
        ended = await asyncio.gather(
            *(guarded.call(policy) for _ in range(20)), return_exceptions=True
        )
        assert {type(error) for error in ended} == {SourceDownError}

    asyncio.run(run())


def test_after_the_outage_everything_is_as_before() -> None:
    async def run() -> None:
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

    asyncio.run(run())


def test_next_run_waits_anew_for_an_outage_that_another_gave_up() -> None:
    """It may be over: the first of its calls that tries must not fail all the others."""

    async def run() -> None:
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

    asyncio.run(run())


def test_trial_in_progress_holds_nobody_beyond_his_patience() -> None:
    """Neither those who came before it nor those who come after."""

    async def run() -> None:
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

    asyncio.run(run())


def test_waiter_whose_patience_ends_after_the_outage_goes_on() -> None:
    """Thousands that wait take their time to go on; here it is a trial that holds the turn."""

    async def run() -> None:
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

    asyncio.run(run())
