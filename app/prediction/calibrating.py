"""One attempt to calibrate: when it began, how far it is, how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hotloop.app.errors import ServiceError, internal_text
from hotloop.app.prediction.calibration_file import Calibrated
from hotloop.app.schemas.recommendation import CalibrationState, CalibrationStatus
from hotloop.app.tasks.model import utc_now

TYPICAL_SECONDS: Final = 8.0
"""Calibrating is expected to take this long, until its own pace says more."""

TELLING_SHARE: Final = 0.2
"""The share of the measuring after which the pace so far says how long the rest takes."""

NOTHING: Final = CalibrationState(
    status=CalibrationStatus.NONE,
    progress=0.0,
    started_at=None,
    ended_at=None,
    estimated_remaining_seconds=None,
    error_message=None,
)


@dataclass(slots=True)
class Attempt:
    """A calibration of this process, from the moment in which it was asked for."""

    started_at: datetime = field(default_factory=utc_now)
    ended_at: datetime | None = None
    share: float = 0.0
    """The share of the planned measuring that is done."""
    error: BaseException | None = None
    _measuring_since: float | None = None

    def begin_to_measure(self) -> None:
        """A run host is there."""
        self._measuring_since = time.monotonic()

    def tell(self, share: float) -> None:
        """Note the share that is done."""
        self.share = share

    def end(self, error: BaseException | None) -> None:
        self.ended_at, self.error = utc_now(), error

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
            error_message=None if self.error is None else _text(self.error),
        )

    def _remaining_seconds(self) -> float:
        if self._measuring_since is None or self.share < TELLING_SHARE:
            return (1 - self.share) * TYPICAL_SECONDS
        return (1 - self.share) / self.share * (time.monotonic() - self._measuring_since)


def kept_state(kept: Calibrated) -> CalibrationState:
    """The state of a calibration that was found in the data folder."""
    seconds = kept.calibration.seconds
    return CalibrationState(
        status=CalibrationStatus.COMPLETED,
        progress=1.0,
        started_at=kept.calibrated_at - timedelta(seconds=seconds),
        ended_at=kept.calibrated_at,
        estimated_remaining_seconds=None,
        error_message=None,
    )


def _text(error: BaseException) -> str:
    """Safe to show to a client."""
    if isinstance(error, ServiceError):
        return str(error)
    return internal_text(error) if isinstance(error, Exception) else "the service stops"
