"""What the API process and a run host say to each other; pickled, between parent and own child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hotloop.app.errors import ServiceError
from hotloop.app.logs.origin import NOWHERE, Origin
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.base import BatchResult, Plan

# --- API to run host -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunCommand:
    plan: Plan
    cold: bool = False
    """Pools are closed first, so that set-up and memory are those of a new run host."""


@dataclass(frozen=True, slots=True)
class IngestCommand:
    """Read the rows of an upload into an item file."""

    upload_path: str
    media_type: str
    """`text/csv` or `application/x-ndjson`."""
    items_path: str
    workload: str
    max_rows: int
    sha256: str | None = None
    """Digest of the upload as it was received."""
    origin: Origin = NOWHERE


@dataclass(frozen=True, slots=True)
class CalibrateCommand:
    """Measure the constants of the cost model."""


@dataclass(frozen=True, slots=True)
class CancelCommand:
    """Stop the run in progress; without one, nothing happens. Nothing else can be stopped so."""


# --- run host to API -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelReport:
    """One kernel as a run host found it at its start.

    `ns_per_operation` is measured nanoseconds by the workload's cost term; empty when the
    kernel is not available.
    """

    workload: str
    kernel: str
    available: bool
    reason: str | None
    releases_gil: bool
    instruction_set: str | None
    warm_up_seconds: float
    ns_per_operation: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Ready:
    """The run host is warm: `pid` is also its process group, which may be killed from now on."""

    pid: int
    start_seconds: float
    kernels: tuple[KernelReport, ...]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Set-up is over and the clock of the duration runs."""

    measured: Measurements
    """The seconds of set-up and the workers; nothing else is known yet."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Results of finished batches, as many as came since the last message (at least one)."""

    results: tuple[BatchResult, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run between two results, sent about twice a second if it has gone on."""

    items_passed: int
    """Items of finished batches, and those that items in work are worth: every stage that an item
    has passed and its kernel call are equal parts of it. Never less than before."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Measurements of a run that ended, by completing or by `error`."""

    error: ServiceError | None
    measured: Measurements
    """What only the run host can measure; it counts no rows, errors or stages."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The outcome of an IngestCommand: a number of rows, or the error that ended it."""

    count: int
    error: ServiceError | None


@dataclass(frozen=True, slots=True)
class CalibrationProgress:
    """The share of a calibration's planned measuring that is done, 0 … 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The outcome of a CalibrateCommand: either the constants, or the error that ended it."""

    calibration: Calibration | None
    error: ServiceError | None


Command = RunCommand | IngestCommand | CalibrateCommand | CancelCommand
RunEvent = RunStarted | Batches | Progress | BreakerReport | RunReport
Event = Ready | RunEvent | Ingested | CalibrationProgress | Calibrated
