"""The calibration behind predictions: read from the data folder, or measured in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from hotloop.app.errors import ServiceError, internal_text
from hotloop.app.names import StrategyName
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.prediction import calibration_file
from hotloop.app.prediction.calibration_file import Calibrated, StoresResults
from hotloop.app.prediction.machine import host_facts, reported_calibration
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.config import RunHostConfig
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.recommendation import CalibrationState, CalibrationStatus
from hotloop.app.tasks.model import utc_now
from hotloop.app.workloads.catalogue import Catalogue

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 3_600.0
"""Pauses after a failed calibration in which only a POST starts another: FIRST_PAUSE_SECONDS,
doubled with each failure up to the longest."""

LOOK_SECONDS: Final = 0.2
"""Seconds between two checks for an idle run host."""

MOST_LOOKS: Final = 300
"""Checks, a minute in all, after which a calibration that no request asked for queues among the
waiting runs."""

TYPICAL_SECONDS: Final = 8.0
"""The expected seconds of a calibration, until its own pace is known."""

TELLING_SHARE: Final = 0.2
"""Share of the measurements after which their pace is used to estimate the rest."""

NOTHING: Final = CalibrationState(
    status=CalibrationStatus.NONE,
    progress=0.0,
    started_at=None,
    ended_at=None,
    estimated_remaining_seconds=None,
    error_message=None,
)


class Calibrations:
    """The calibration of this machine, at most one at a time, shared by all requests."""

    def __init__(
        self,
        folder: Path,
        hosts: RunHostPool,
        config: RunHostConfig,
        store_results: StoresResults,
        catalogue: Catalogue,
        clusters: ClusterMonitor,
        *,
        begins_unasked: bool = True,
    ) -> None:
        """Each calibration enters `store_results` and passes the results of its runs to it."""
        self._folder = folder
        self._begins_unasked = begins_unasked
        self._hosts = hosts
        self._config = config
        self._store_results = store_results
        self._catalogue = catalogue
        self._clusters = clusters
        self._calibrated: Calibrated | None = None
        self._read: calibration_file.Version | None = None
        """The version of the file that was read last."""
        self._mark: tuple[tuple[KernelReport, ...], str] | None = None
        """The reports and their fingerprint, which takes milliseconds to make."""
        self._calibrating: asyncio.Task[None] | None = None
        self._urgent = asyncio.Event()
        """Set when a request asks for the calibration, which then no longer waits to be polite."""
        self._tried: set[StrategyName] = set()
        """Clusters for which this process has begun a calibration by itself."""
        self._attempt: _Attempt | None = None
        """The last attempt of this process."""
        self._failures = 0
        """Number of attempts that failed since the last success."""
        self._due = 0.0
        """The monotonic time before which only a POST starts another attempt."""

    async def known(
        self,
        workload: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        exact: bool = False,
    ) -> Calibration:
        """Return the constants that are known without measuring: the calibration, without clusters
        that cannot be reached now, or else constants from the run hosts' reports and typical
        values; and the costs of own workloads, see `Catalogue.costs`. Raises NotReadyError.
        """
        own = await self._catalogue.costs(workload, parameters, exact=exact)
        found = await self.found()
        if found is not None:
            known = found.calibration
        else:
            config = self._config
            known = reported_calibration(
                await self._hosts.kernels(),
                config.usable_cpus,
                config.max_worker_threads,
                config.max_worker_processes,
            )
        up = {n: c for n, c in known.clusters.items() if self._clusters.is_up(StrategyName(n))}
        return replace(known, kernels=known.kernels + own, clusters=up)

    async def found(self) -> Calibrated | None:
        """Return the calibration of this machine with its present versions and limits; ignore
        another machine's. Raises NotReadyError.
        """
        mark = await self.fingerprint()
        now = await asyncio.to_thread(calibration_file.version, self._folder)
        if now not in (None, self._read):
            self._read = now
            loaded = await asyncio.to_thread(calibration_file.load, self._folder)
            if loaded is not None and loaded.fingerprint == mark:
                self._calibrated = loaded
            elif loaded is not None:
                logger.info("the calibration in the data folder is from another machine")
        if self._calibrated is not None and self._calibrated.fingerprint != mark:
            logger.info("the machine has changed since it was calibrated")
            self._calibrated = None
        return self._calibrated

    async def fingerprint(self) -> str:
        """Return the fingerprint of the machine as it is now. Raises NotReadyError."""
        reports = await self._hosts.kernels()
        if self._mark is None or self._mark[0] is not reports:
            facts = await asyncio.to_thread(host_facts, reports, None)
            self._mark = reports, calibration_file.fingerprint(facts, reports, self._config)
        return self._mark[1]

    async def facts(self) -> dict[str, Any]:
        """Return the machine's `host_facts`. Raises NotReadyError."""
        return await asyncio.to_thread(host_facts, await self._hosts.kernels(), None)

    def begin(self) -> None:
        """Start a calibration, unless one is in progress. It queues among the runs, even if a
        calibration in progress has waited for an idle run host so far.
        """
        self._urgent.set()
        self._begin(politely=False)

    async def begin_if_due(self) -> None:
        """Start a calibration that waits for an idle run host if there is none, or a cluster has
        come up that it lacks; but not too soon after a failure, not twice for a cluster that could
        not be measured, and never in a process that was told to begin none unasked. Raises
        NotReadyError.
        """
        found = await self.found()
        known = {} if found is None else found.calibration.clusters
        new = self._clusters.up() - {StrategyName(name) for name in known} - self._tried
        if self._begins_unasked and time.monotonic() >= self._due and (found is None or new):
            self._tried |= new
            self._begin(politely=True)

    async def ended(self) -> None:
        """Wait for the calibration in progress, if any; `state` then has its outcome. Cancelling
        the caller does not cancel the calibration.
        """
        if self._calibrating is not None:
            await asyncio.wait((self._calibrating,))

    async def state(self) -> CalibrationState:
        """Return the state of the calibration in progress, of the last one, or of the one in the
        data folder. Raises NotReadyError.
        """
        found = await self.found()
        if (current := self.in_progress()) is not None:
            return current
        last = self._attempt
        has_failed = last is not None and last.error is not None
        if last and has_failed and (found is None or found.calibrated_at < last.started_at):
            return last.state()
        return NOTHING if found is None else _kept_state(found)

    def in_progress(self) -> CalibrationState | None:
        """Return the state of the calibration in progress; None without one."""
        if self._calibrating is None or self._attempt is None:
            return None
        return self._attempt.state()

    async def close(self) -> None:
        """Cancel the calibration in progress."""
        if self._calibrating is not None:
            self._calibrating.cancel()
            await asyncio.gather(self._calibrating, return_exceptions=True)

    def _begin(self, *, politely: bool) -> None:
        if self._calibrating is None:
            self._attempt = _Attempt()
            self._calibrating = asyncio.create_task(self._make(self._attempt, politely))

    async def _make(self, attempt: _Attempt, politely: bool) -> None:
        """Calibrate and note the outcome in `attempt`. Raises nothing."""
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
            attempt.ended_at, attempt.error = utc_now(), error
            self._calibrating = None
            self._urgent.clear()

    async def _calibrate(self, attempt: _Attempt, politely: bool) -> Calibrated:
        if politely:
            await self._wait_for_idle()
        async with calibration_file.calibrating_alone(self._folder):
            found = await self.found()
            if found is not None and found.calibrated_at > attempt.started_at:
                return found  # another process with this data folder made it meanwhile
            async with (
                self._hosts.lease(patient=True) as client,
                self._catalogue.measuring_turn(),
                self._store_results() as store_results,
            ):
                attempt.measuring_since = time.monotonic()
                calibration = await client.calibrate(store_results, attempt.note)
            calibrated = Calibrated(calibration, utc_now(), await self.fingerprint())
            logger.info("calibrating took %.1f s", calibration.seconds)
            try:
                await asyncio.to_thread(calibration_file.save, self._folder, calibrated)
            except OSError as error:
                logger.warning("the calibration cannot be saved: %s", error)
        return calibrated

    async def _wait_for_idle(self) -> None:
        for _ in range(MOST_LOOKS):
            if self._urgent.is_set() or self._hosts.states()["idle"]:
                return
            await asyncio.sleep(LOOK_SECONDS)


@dataclass(slots=True)
class _Attempt:
    """A calibration by this process: its start, progress and outcome."""

    started_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None
    share: float = 0.0
    """Share of the planned measurements that are done."""
    error: BaseException | None = None
    measuring_since: float | None = None
    """The monotonic time when it got its run host."""

    def note(self, share: float) -> None:
        """Note the share that is done."""
        self.share = share

    def state(self) -> CalibrationState:
        if self.ended_at is None:
            status, progress = CalibrationStatus.RUNNING, self.share
        elif self.error is None:
            status, progress = CalibrationStatus.COMPLETED, 1.0
        else:
            status, progress = CalibrationStatus.FAILED, self.share
        return CalibrationState(
            status=status,
            progress=progress,
            started_at=self.started_at,
            ended_at=self.ended_at,
            estimated_remaining_seconds=None if self.ended_at else self._remaining_seconds(),
            error_message=None if self.error is None else _error_text(self.error),
        )

    def _remaining_seconds(self) -> float:
        if self.measuring_since is None or self.share < TELLING_SHARE:
            return (1 - self.share) * TYPICAL_SECONDS
        return (1 - self.share) / self.share * (time.monotonic() - self.measuring_since)


def _kept_state(kept: Calibrated) -> CalibrationState:
    """Return the state of a calibration that was found in the data folder."""
    seconds = kept.calibration.seconds
    return CalibrationState(
        status=CalibrationStatus.COMPLETED,
        progress=1.0,
        started_at=kept.calibrated_at - timedelta(seconds=seconds),
        ended_at=kept.calibrated_at,
        estimated_remaining_seconds=None,
        error_message=None,
    )


def _error_text(error: BaseException) -> str:
    """Return the error in words that are safe to show to a client."""
    if isinstance(error, ServiceError):
        return str(error)
    return internal_text(error) if isinstance(error, Exception) else "the service stops"
