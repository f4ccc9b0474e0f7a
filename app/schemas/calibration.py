"""The state of a calibration of the machine."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field

from hotloop.app.schemas.base import ResponseModel
from hotloop.app.schemas.results import Seconds


class CalibrationStatus(StrEnum):
    """The state of the last calibration."""

    NONE = "none"
    """The machine was not calibrated yet, with these versions and limits."""
    RUNNING = "running"
    """It waits for a run host, or measures."""
    COMPLETED = "completed"
    """Predictions rest on it."""
    FAILED = "failed"
    """`error_message` says why; predictions rest on what was known before."""


class CalibrationState(ResponseModel):
    """The last calibration as the process that answers knows it."""

    status: CalibrationStatus
    progress: Annotated[float, Field(ge=0, le=1)]
    """The share of the planned measuring that is done; 0 while it waits for a run host."""
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    estimated_remaining_seconds: Seconds | None
    """Only while it is running."""
    error_message: str | None
    """Why it failed."""
