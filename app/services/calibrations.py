"""The calibration that predictions rest on: found in the data folder, or made when asked for."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

from app.runhost.calibration import Calibration
from app.runhost.config import RunHostConfig
from app.runhost.host_pool import RunHostPool
from app.runhost.messages import Batches, KernelReport
from app.services.calibration_file import Calibrated, fingerprint, load, save
from app.services.host_facts import host_facts
from app.services.reported_costs import reported_calibration
from app.tasks.chunks import pack
from app.tasks.model import utc_now

logger = logging.getLogger(__name__)


class Calibrations:
    """One calibration at a time, shared by all who ask meanwhile; `close` in the end."""

    def __init__(self, folder: Path, hosts: RunHostPool, config: RunHostConfig) -> None:
        self._folder = folder
        self._hosts = hosts
        self._config = config
        self._calibrated: Calibrated | None = None
        self._looked = False
        self._mark: tuple[tuple[KernelReport, ...], str] | None = None
        """The fingerprint with the reports that it is of: making one takes milliseconds."""
        self._calibrating: asyncio.Task[Calibrated] | None = None

    async def known(self) -> Calibration:
        """What is known of the machine without measuring; without a calibration, what the run
        hosts reported at their start and typical values. Raises NotReadyError.
        """
        reports = await self._hosts.kernels()
        found = await self._find(reports)
        if found is not None:
            return found.calibration
        config = self._config
        return reported_calibration(
            reports, config.usable_cpus, config.max_worker_threads, config.max_worker_processes
        )

    async def measured(self, *, refresh: bool = False) -> Calibrated:
        """The calibration of this machine, versions and limits as they are; measured now where
        there is none, or when `refresh` asks for it. A cancelled caller does not end it.

        Raises NotReadyError, TooBusyError, RunHostDiedError, WorkerCrashedError.
        """
        if self._calibrating is None and not refresh:
            found = await self._find(await self._hosts.kernels())
            if found is not None:
                return found
        if self._calibrating is None:  # still
            self._calibrating = asyncio.create_task(self._calibrate())
            self._calibrating.add_done_callback(self._ended)
        return await asyncio.shield(self._calibrating)

    async def facts(self) -> tuple[dict[str, Any], tuple[KernelReport, ...]]:
        """The machine, as `host_facts` gives it, and its kernels."""
        reports = await self._hosts.kernels()
        return await asyncio.to_thread(host_facts, reports, None), reports

    async def close(self) -> None:
        """Break off what is being measured."""
        if self._calibrating is not None:
            self._calibrating.cancel()
            await asyncio.gather(self._calibrating, return_exceptions=True)

    async def _find(self, reports: tuple[KernelReport, ...]) -> Calibrated | None:
        """Of this machine as it is now; an older one is forgotten."""
        mark = await self._fingerprint(reports)
        if self._calibrated is None and not self._looked:
            found = await asyncio.to_thread(load, self._folder)
            self._looked, self._calibrated = True, self._calibrated or found
        if self._calibrated is not None and self._calibrated.fingerprint != mark:
            logger.info("the machine is another than the one that was calibrated")
            self._calibrated = None
        return self._calibrated

    async def _fingerprint(self, reports: tuple[KernelReport, ...]) -> str:
        if self._mark is None or self._mark[0] is not reports:
            facts = await asyncio.to_thread(host_facts, reports, None)
            self._mark = reports, fingerprint(facts, reports, self._config)
        return self._mark[1]

    async def _calibrate(self) -> Calibrated:
        async with self._hosts.lease() as client:
            calibration = await client.calibrate(_pack)
            reports = await self._hosts.kernels()
        mark = await self._fingerprint(reports)
        self._calibrated = Calibrated(calibration, utc_now(), mark)
        try:
            await asyncio.to_thread(save, self._folder, self._calibrated)
        except OSError as error:
            logger.warning("the calibration cannot be kept: %s", error)
        return self._calibrated

    def _ended(self, calibrating: asyncio.Task[Calibrated]) -> None:
        self._calibrating = None
        if not calibrating.cancelled():
            calibrating.exception()  # seen, also when nobody waits any more


async def _pack(event: Batches) -> None:
    """What storing results takes of the CPUs, or most of it; then they are forgotten."""
    found = event.results[0].columns
    columns = tuple((name, column.dtype.name) for name, column in found.items())
    await asyncio.to_thread(pack, event.results, columns)
