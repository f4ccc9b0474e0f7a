"""One calibration for all who ask, kept, and made again when it is of another machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from app.errors import RunHostDiedError
from app.runhost.calibration import Calibration
from app.runhost.config import RunHostConfig
from app.runhost.host_pool import RunHostPool
from app.runhost.messages import KernelReport
from app.services.calibration_file import NAME, load
from app.services.calibrations import Calibrations
from tests.fixtures.calibrations import REPORTS, usual

CONFIG = RunHostConfig(8, 2, 2, 60.0)


class Hosts:
    """Run hosts that answer as told; the real one is in tests/runhost and end_to_end."""

    def __init__(self) -> None:
        self.calibrations = 0
        self.leases = 0
        self.error: Exception | None = None
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reports: tuple[KernelReport, ...] = REPORTS

    async def kernels(self) -> tuple[KernelReport, ...]:
        return self.reports

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Hosts]:
        self.leases += 1
        try:
            yield self
        finally:
            self.leases -= 1

    async def calibrate(self, take: object) -> Calibration:
        self.calibrations += 1
        self.begun.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return replace(usual(), seconds=float(self.calibrations))


def made(folder: Path, hosts: Hosts) -> Calibrations:
    return Calibrations(folder, cast(RunHostPool, hosts), CONFIG)


def test_measured_once_then_kept(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path, hosts)
        before = await ours.known()
        assert hosts.calibrations == 0
        assert before.seconds == 0.0
        first = await ours.measured()
        assert (await ours.measured()) == first
        assert (await ours.known()) == first.calibration
        # another process, or this one after a restart
        assert (await made(tmp_path, hosts).measured()) == first
        assert (await made(tmp_path, hosts).known()) == first.calibration
        assert (hosts.calibrations, hosts.leases) == (1, 0)

    asyncio.run(check())


def test_refresh_measures_anew(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path, hosts)
        first, second = await ours.measured(), await ours.measured(refresh=True)
        assert (first.calibration.seconds, second.calibration.seconds) == (1.0, 2.0)
        assert load(tmp_path) == second

    asyncio.run(check())


def test_all_who_ask_meanwhile_share_one(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.gate.clear()
        ours = made(tmp_path, hosts)
        asking = [asyncio.create_task(ours.measured(refresh=True)) for _ in range(6)]
        await hosts.begun.wait()
        asking.append(asyncio.create_task(ours.measured()))
        await asyncio.sleep(0)
        asking[0].cancel()
        hosts.gate.set()
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert len(set(map(id, found[1:]))) == 1
        assert hosts.calibrations == 1

    asyncio.run(check())


@pytest.mark.parametrize("damage", ["corrupt", "other kernels"])
def test_what_is_not_of_this_machine_is_measured_anew(tmp_path: Path, damage: str) -> None:
    async def check() -> None:
        hosts = Hosts()
        await made(tmp_path, hosts).measured()
        if damage == "corrupt":
            (tmp_path / NAME).write_text("{")
        else:
            hosts.reports = tuple(replace(r, instruction_set="new") for r in REPORTS)
        again = made(tmp_path, hosts)
        assert (await again.known()).seconds == 0.0
        assert (await again.measured()).calibration.seconds == 2.0
        assert load(tmp_path) == await again.measured()
        assert hosts.calibrations == 2

    asyncio.run(check())


def test_change_while_the_service_runs_is_noticed(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path, hosts)
        first = await ours.measured()
        hosts.reports = REPORTS[:2]
        second = await ours.measured()
        assert second.fingerprint != first.fingerprint
        assert hosts.calibrations == 2

    asyncio.run(check())


def test_failure_reaches_all_and_the_next_tries_again(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.error = RunHostDiedError(-9)
        ours = made(tmp_path, hosts)
        asking = [ours.measured(refresh=True), ours.measured(refresh=True)]
        found = await asyncio.gather(*asking, return_exceptions=True)
        assert found == [hosts.error, hosts.error]
        hosts.error = None
        assert (await ours.measured()).calibration.seconds == 2.0

    asyncio.run(check())


def test_folder_that_cannot_be_written_costs_only_the_file(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        ours = made(tmp_path / "not there", hosts)
        first = await ours.measured()
        assert await ours.measured() == first
        assert hosts.calibrations == 1

    asyncio.run(check())


def test_close_ends_what_is_being_measured(tmp_path: Path) -> None:
    async def check() -> None:
        hosts = Hosts()
        hosts.gate.clear()
        ours = made(tmp_path, hosts)
        asking = asyncio.create_task(ours.measured())
        await hosts.begun.wait()
        await ours.close()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert hosts.leases == 0

    asyncio.run(check())
