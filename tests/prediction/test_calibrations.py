"""Calibrations are shared by all requests, kept, and made again on a changed machine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from hotloop.app.errors import RunHostDiedError
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.prediction.calibration_file import (
    NAME,
    Calibrated,
    calibrating_alone,
    load,
    save,
)
from hotloop.app.prediction.calibrations import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    TYPICAL_SECONDS,
    Calibrations,
)
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.schemas.recommendation import CalibrationStatus
from hotloop.app.tasks.model import utc_now
from tests.fixtures.calibrating import CONFIG, Hosts, made, measured, stores_nothing
from tests.fixtures.calibrations import REPORTS, no_own_workloads, usual


def test_measured_once_then_kept(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path, hosts)
        before = await ours.known()
        assert hosts.calibrations == 0
        assert before.seconds == 0.0
        first = await measured(ours)
        assert await measured(ours) == first
        assert await ours.known() == first.calibration
        # another process, or this one after a restart
        assert await measured(made(tmp_path, hosts)) == first
        assert await made(tmp_path, hosts).known() == first.calibration
        assert (hosts.calibrations, hosts.leases) == (1, 0)

    asyncio.run(check())


def test_process_without_unasked_calibrations_begins_only_asked_ones(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        real = cast(RunHostPool, hosts)
        given = tmp_path, real, CONFIG, stores_nothing, no_own_workloads(real), ClusterMonitor({})
        ours = Calibrations(*given, begins_unasked=False)
        await ours.begin_if_due()
        assert ours.in_progress() is None
        await ours.ended()
        assert hosts.calibrations == 0
        ours.begin()
        await ours.ended()
        assert await ours.found() is not None

    asyncio.run(check())


def test_begin_measures_anew(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path, hosts)
        first = await measured(ours)
        ours.begin()
        assert await ours.found() == first
        await ours.ended()
        second = await ours.found()
        assert second is not None
        assert (first.calibration.seconds, second.calibration.seconds) == (1.0, 2.0)
        assert load(tmp_path) == second

    asyncio.run(check())


def test_requests_share_the_calibration_in_progress(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.gate.clear()
        ours = made(tmp_path, hosts)
        for _ in range(3):
            ours.begin()
            await ours.begin_if_due()
        waiting = [asyncio.create_task(ours.ended()) for _ in range(6)]
        await hosts.begun.wait()
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert waiting[0].cancelled()
        assert not any(each.done() for each in waiting[1:])
        hosts.gate.set()
        await asyncio.gather(*waiting[1:])
        assert await ours.found() is not None
        assert hosts.calibrations == 1

    asyncio.run(check())


@pytest.mark.parametrize("damage", ["corrupt", "other kernels"])
def test_unusable_file_is_measured_anew(tmp_path: Path, damage: str) -> None:
    async def check() -> None:
        hosts = Hosts()
        await measured(made(tmp_path, hosts))
        if damage == "corrupt":
            (tmp_path / NAME).write_text("{")
        else:
            hosts.reports = tuple(replace(r, instruction_set="new") for r in REPORTS)
        again = made(tmp_path, hosts)
        assert (await again.known()).seconds == 0.0
        assert (await again.state()).status is CalibrationStatus.NONE
        found = await measured(again)
        assert found.calibration.seconds == 2.0
        assert load(tmp_path) == found
        assert hosts.calibrations == 2

    asyncio.run(check())


def test_change_of_kernels_is_detected_at_runtime(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path, hosts)
        first = await measured(ours)
        hosts.reports = REPORTS[:2]
        assert (await ours.state()).status is CalibrationStatus.NONE
        second = await measured(ours)
        assert second.fingerprint != first.fingerprint
        assert hosts.calibrations == 2

    asyncio.run(check())


def test_calibration_of_another_process_is_found(tmp_path: Path) -> None:
    """Processes that answer on one port share the folder, and do not measure each other."""

    async def check() -> None:
        hosts, others = Hosts(), Hosts()
        ours, theirs = made(tmp_path, hosts), made(tmp_path, others)
        assert await ours.found() is None
        others.gate.clear()
        await theirs.begin_if_due()
        await others.begun.wait()
        await ours.begin_if_due()
        ours_ended = asyncio.create_task(ours.ended())
        assert (await ours.state()).status is CalibrationStatus.RUNNING
        others.gate.set()
        await ours_ended
        assert await ours.found() is not None
        assert await ours.found() == await theirs.found()
        assert (hosts.calibrations, others.calibrations) == (0, 1)
        # Each sees what the other one measures later.
        theirs.begin()
        await theirs.ended()
        assert await ours.found() == await theirs.found()

    asyncio.run(check())


def test_file_of_another_machine_does_not_replace_the_calibration(
    tmp_path: Path,
) -> None:
    """A process with other limits of workers may share the folder."""

    async def check() -> None:
        ours = made(tmp_path, Hosts())
        first = await measured(ours)
        save(tmp_path, replace(first, fingerprint="0" * 16))
        assert await ours.found() == first
        assert (await ours.state()).status is CalibrationStatus.COMPLETED

    asyncio.run(check())


def test_waiting_for_an_idle_host_does_not_lock_the_folder(tmp_path: Path) -> None:
    async def check() -> None:
        hosts, others = Hosts(), Hosts()
        hosts.idle = 0
        ours, theirs = made(tmp_path, hosts), made(tmp_path, others)
        await ours.begin_if_due()
        await hosts.looked_for.wait()
        theirs.begin()
        async with asyncio.timeout(10):
            await theirs.ended()
        hosts.idle = 1
        await ours.ended()
        assert await ours.found() == await theirs.found()
        assert (hosts.calibrations, others.calibrations) == (0, 1)

    asyncio.run(check())


def test_state_has_progress_and_outcome(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.tells = (0.25, 0.5)
        hosts.gate.clear()
        ours = made(tmp_path, hosts)
        none = await ours.state()
        assert (none.status, none.progress, none.started_at) == (CalibrationStatus.NONE, 0, None)
        assert ours.in_progress() is None
        ours.begin()
        waiting = ours.in_progress()
        assert waiting is not None
        assert (waiting.status, waiting.progress) == (CalibrationStatus.RUNNING, 0)
        assert waiting.estimated_remaining_seconds == TYPICAL_SECONDS
        await hosts.begun.wait()
        running = await ours.state()
        assert (running.status, running.progress) == (CalibrationStatus.RUNNING, 0.5)
        assert running.started_at is not None
        assert running.ended_at is None
        assert running.estimated_remaining_seconds is not None
        assert ours.in_progress() is not None
        hosts.gate.set()
        await ours.ended()
        done = await ours.state()
        assert (done.status, done.progress) == (CalibrationStatus.COMPLETED, 1)
        found = await ours.found()
        assert found is not None
        assert done.ended_at == found.calibrated_at
        assert (done.error_message, done.estimated_remaining_seconds) == (None, None)
        assert ours.in_progress() is None
        # another process knows it by its file
        assert await made(tmp_path, hosts).state() == done

    asyncio.run(check())


def test_failure_is_reported_and_tried_again_after_a_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr("hotloop.app.prediction.calibrations.time.monotonic", lambda: now)

    async def check() -> None:
        nonlocal now
        hosts = Hosts()
        hosts.error = RunHostDiedError(-9)
        ours = made(tmp_path, hosts)
        await ours.begin_if_due()
        await ours.ended()
        state = await ours.state()
        assert state.status is CalibrationStatus.FAILED
        assert state.error_message == str(hosts.error)
        assert state.ended_at is not None
        assert await ours.found() is None
        # The next who ask start none until the pause is over, which doubles.
        pause = FIRST_PAUSE_SECONDS
        for attempts in (1, 2, 3):
            now += pause - 1
            await ours.begin_if_due()
            assert ours.in_progress() is None
            now += 1
            await ours.begin_if_due()
            await ours.ended()
            assert hosts.calibrations == attempts + 1
            pause *= 2
        for _ in range(20):  # a POST starts one at once, as often as it comes
            ours.begin()
            await ours.ended()
        assert hosts.calibrations == 24
        now += LONGEST_PAUSE_SECONDS
        hosts.error = None
        assert (await measured(ours)).calibration.seconds == 25.0
        assert (await ours.state()).status is CalibrationStatus.COMPLETED
        # What was known stays known when measuring anew fails, and that is told.
        hosts.error = ValueError("secret")
        ours.begin()
        await ours.ended()
        assert (await measured(ours)).calibration.seconds == 25.0
        failed = await ours.state()
        assert failed.status is CalibrationStatus.FAILED
        assert failed.error_message is not None
        assert "ValueError" in failed.error_message
        assert "secret" not in failed.error_message

    asyncio.run(check())


def test_unasked_calibration_waits_for_an_idle_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def check() -> None:
        hosts = Hosts()
        hosts.idle = 0

        async def look(seconds: float) -> None:
            nonlocal looks
            looks += 1
            assert hosts.calibrations == 0
            if looks == 3:
                hosts.idle = 1

        monkeypatch.setattr("hotloop.app.prediction.calibrations.asyncio.sleep", look)
        await measured(made(tmp_path, hosts))
        assert (looks, hosts.calibrations) == (3, 1)

    asyncio.run(check())


def test_requested_calibration_queues_with_the_runs(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.idle = 0
        ours = made(tmp_path, hosts)
        ours.begin()
        await ours.ended()
        assert hosts.calibrations == 1

    asyncio.run(check())


def test_waiting_calibration_takes_its_turn_once_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def check() -> None:
        hosts = Hosts()
        hosts.idle = 0
        ours = made(tmp_path, hosts)

        async def look(seconds: float) -> None:
            nonlocal looks
            looks += 1
            if looks == 1:
                ours.begin()
            elif looks == 3:
                hosts.idle = 1

        monkeypatch.setattr("hotloop.app.prediction.calibrations.asyncio.sleep", look)
        await ours.begin_if_due()
        await ours.ended()
        assert (looks, hosts.calibrations) == (1, 1)
        # The next one that nobody asked for waits again.
        hosts.reports = REPORTS[:2]
        await ours.begin_if_due()
        await ours.ended()
        assert (looks, hosts.calibrations) == (3, 2)

    asyncio.run(check())


def test_calibration_is_known_without_a_writable_folder(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path / "not there", hosts)
        first = await measured(ours)
        assert await measured(ours) == first
        assert hosts.calibrations == 1

    asyncio.run(check())


def test_close_ends_the_calibration_in_progress(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.gate.clear()
        ours = made(tmp_path, hosts)
        ours.begin()
        waiting = asyncio.create_task(ours.ended())
        await hosts.begun.wait()
        await ours.close()
        await waiting
        assert hosts.leases == 0
        assert (await ours.state()).status is CalibrationStatus.FAILED
        async with asyncio.timeout(5), calibrating_alone(tmp_path):
            save(tmp_path, Calibrated(usual(), utc_now(), "0"))  # others may

    asyncio.run(check())
