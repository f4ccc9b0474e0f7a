"""The calibration that predictions rest on: from the data folder, or made behind the answers."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any, Final

from hotloop.app.errors import ServiceError
from hotloop.app.prediction.calibrating import NOTHING, Attempt, kept_state
from hotloop.app.prediction.calibration_file import (
    Calibrated,
    Version,
    calibrating_alone,
    fingerprint,
    load,
    save,
    version,
)
from hotloop.app.prediction.calibration_results import StoresResults
from hotloop.app.prediction.host_facts import host_facts
from hotloop.app.prediction.reported_costs import reported_calibration
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.calibration import CalibrationState
from hotloop.app.tasks.model import utc_now

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 3_600.0
"""After a failed calibration nobody but a POST starts another one for so long: doubled with each
failure from the first pause to the longest."""

LOOK_SECONDS: Final = 0.2
"""Between two looks for an idle run host."""

MOST_LOOKS: Final = 300
"""After so many looks, a minute, a calibration that nobody asked for takes its turn among the runs
that wait."""


class Calibrations:
    """One calibration at a time, whoever asks for it; `close` in the end."""

    def __init__(
        self,
        folder: Path,
        hosts: RunHostPool,
        config: RunHostConfig,
        store_results: StoresResults,
        *,
        begins_unasked: bool = True,
    ) -> None:
        """Each calibration enters `store_results`, through which its results go."""
        self._folder = folder
        self._begins_unasked = begins_unasked
        self._hosts = hosts
        self._config = config
        self._store_results = store_results
        self._calibrated: Calibrated | None = None
        self._read: Version | None = None
        """The version of the file that was read last."""
        self._mark: tuple[tuple[KernelReport, ...], str] | None = None
        """The fingerprint with the reports that it is of: making one takes milliseconds."""
        self._calibrating: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        """Set when a request asks for the calibration in progress, which waits no longer then."""
        self._attempt: Attempt | None = None
        """The last one of this process."""
        self._failures = 0
        """Attempts that failed one after another."""
        self._due = 0.0
        """The monotonic time before which only a POST starts another attempt."""

    async def known(self) -> Calibration:
        """What is known of the machine without measuring; without a calibration, what the run
        hosts reported at their start and typical values. Raises NotReadyError.
        """
        found = await self.found()
        if found is not None:
            return found.calibration
        config = self._config
        return reported_calibration(
            await self._hosts.kernels(),
            config.usable_cpus,
            config.max_worker_threads,
            config.max_worker_processes,
        )

    async def found(self) -> Calibrated | None:
        """The calibration of this machine with versions and limits as they are now; one of another
        machine is forgotten. Raises NotReadyError.
        """
        mark = await self.fingerprint()
        if (now := await asyncio.to_thread(version, self._folder)) not in (None, self._read):
            self._read = now
            loaded = await asyncio.to_thread(load, self._folder)
            if loaded is not None and loaded.fingerprint == mark:
                self._calibrated = loaded
            elif loaded is not None:
                logger.info("the calibration in the data folder is of another machine")
        if self._calibrated is not None and self._calibrated.fingerprint != mark:
            logger.info("the machine is another than the one that was calibrated")
            self._calibrated = None
        return self._calibrated

    async def fingerprint(self) -> str:
        """The fingerprint of the machine as it is now. Raises NotReadyError."""
        reports = await self._hosts.kernels()
        if self._mark is None or self._mark[0] is not reports:
            facts = await asyncio.to_thread(host_facts, reports, None)
            self._mark = reports, fingerprint(facts, reports, self._config)
        return self._mark[1]

    async def facts(self) -> tuple[dict[str, Any], tuple[KernelReport, ...]]:
        """The machine, as `host_facts` gives it, and its kernels."""
        reports = await self._hosts.kernels()
        return await asyncio.to_thread(host_facts, reports, None), reports

    def begin(self) -> None:
        """Start a calibration, unless one is in progress. It takes its turn among the runs; so does
        one in progress that waited for an idle run host.
        """
        self._urgent.set()
        self._begin(politely=False)

    def begin_if_due(self) -> None:
        """Start a calibration that nobody asked for: not too soon after one that failed, and when a
        run host has nothing else to do; never in a process that does not live to see its end.
        """
        if self._begins_unasked and time.monotonic() >= self._due:
            self._begin(politely=True)

    async def ended(self) -> None:
        """Wait for the calibration in progress, if there is one; how it ended is in `state`. A
        caller that is cancelled does not end it.
        """
        if self._calibrating is not None:
            await asyncio.wait((self._calibrating,))

    async def state(self) -> CalibrationState:
        """Raises NotReadyError."""
        found = await self.found()
        if (current := self.in_progress()) is not None:
            return current
        last = self._attempt
        has_failed = last is not None and last.error is not None
        if last and has_failed and (found is None or found.calibrated_at < last.started_at):
            return last.state()
        return NOTHING if found is None else kept_state(found)

    def in_progress(self) -> CalibrationState | None:
        """Return the state of the calibration in progress; None without one."""
        if self._calibrating is None or self._attempt is None:
            return None
        return self._attempt.state()

    async def close(self) -> None:
        """Break off what is being measured."""
        if self._calibrating is not None:
            self._calibrating.cancel()
            await asyncio.gather(self._calibrating, return_exceptions=True)

    def _begin(self, *, politely: bool) -> None:
        if self._calibrating is None:
            self._attempt = Attempt()
            self._calibrating = asyncio.create_task(self._make(self._attempt, politely))

    async def _make(self, attempt: Attempt, politely: bool) -> None:
        """An attempt, whose outcome is noted in it. Raises nothing."""
        error: BaseException | None = None
        try:
            self._calibrated = await self._calibrate(attempt, politely)
            self._failures, self._due = 0, 0.0
        except asyncio.CancelledError as cancelled:
            error = cancelled
            raise
        except Exception as fault:
            error = fault
            self._failures += 1
            pause = FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 10)
            self._due = time.monotonic() + min(pause, LONGEST_PAUSE_SECONDS)
            known = isinstance(fault, ServiceError)
            logger.warning("calibrating failed: %r", fault, exc_info=None if known else fault)
        finally:
            attempt.end(error)
            self._calibrating = None
            self._urgent.clear()

    async def _calibrate(self, attempt: Attempt, politely: bool) -> Calibrated:
        if politely:
            await self._wait_for_idle()
        async with calibrating_alone(self._folder):
            found = await self.found()
            if found is not None and found.calibrated_at > attempt.started_at:
                return found  # another process of this folder made it meanwhile
            async with (
                self._hosts.lease(patient=True) as client,
                self._store_results() as store_results,
            ):
                attempt.begin_to_measure()
                calibration = await client.calibrate(store_results, attempt.tell)
            calibrated = Calibrated(calibration, utc_now(), await self.fingerprint())
            logger.info("calibrating took %.1f s", calibration.seconds)
            try:
                await asyncio.to_thread(save, self._folder, calibrated)
            except OSError as error:
                logger.warning("the calibration cannot be kept: %s", error)
        return calibrated

    async def _wait_for_idle(self) -> None:
        for _ in range(MOST_LOOKS):
            if self._urgent.is_set() or self._hosts.states()["idle"]:
                return
            await asyncio.sleep(LOOK_SECONDS)
