"""The messages between the API process and a run host; they travel in the frames of
`hotloop.app.frames`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hotloop.app.errors import ServiceError
from hotloop.app.logs.origin import NOWHERE, Origin
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.sources.base import Columns, ItemError
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.base import BatchResult, Plan
from hotloop.kernels.contract import Workload

# --- API to run host -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunCommand:
    plan: Plan
    cold: bool = False
    """Close all pools first, so that set-up and memory are those of a new run host."""


@dataclass(frozen=True, slots=True)
class IngestCommand:
    """Read the rows of an upload into an item file."""

    upload_path: str
    media_type: str
    """One of `sources.rows.media_types()`."""
    items_path: str
    workload: str
    max_rows: int
    max_bytes: int
    """Bytes of the largest item file."""
    sha256: str | None = None
    """Digest of the upload as it was received."""
    origin: Origin = NOWHERE
    declaration: Workload | None = None
    """The columns of a user's workload, whose code reading does not need."""


@dataclass(frozen=True, slots=True)
class CalibrateCommand:
    """Measure the constants of the cost model."""


class CallCommand(NamedTuple):
    """Compute the items of some small calls by one kernel call."""

    kind: int
    """The number that the sender gives to a kernel with its parameters."""
    plan: Plan | None
    """The kernel and its parameters, with the first command of a kind; its items are not loaded."""
    item_ids: npt.NDArray[np.int64]
    columns: Columns
    counts: tuple[int, ...]
    """The number of items of each call, one call after another."""


@dataclass(frozen=True, slots=True)
class CancelCommand:
    """Stop the run in progress, if there is one. Other commands cannot be stopped."""


# --- run host to API -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelReport:
    """A kernel as a run host found it at its start, or an examination of a user's workload did.

    `ns_per_operation` is measured nanoseconds by the workload's cost term; empty if the kernel is
    not available.
    """

    workload: str
    kernel: str
    available: bool
    reason: str | None
    releases_gil: bool
    instruction_set: str | None
    warm_up_seconds: float
    ns_per_operation: Mapping[str, float]
    ns_beside: float = 0.0
    """Nanoseconds of an item beside its operations."""
    examined: bool = True
    """False as long as it is not known whether the kernel is available."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The run host is warm. `pid` is also its process group, which may be killed from now on."""

    pid: int
    start_seconds: float
    kernels: tuple[KernelReport, ...]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """The set-up of a run is over, and its duration begins."""

    measured: Measurements
    """The seconds of set-up and the workers; nothing else is known yet."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The results of batches that finished since the last message, at least one."""

    results: tuple[BatchResult, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run between two results, sent about twice a second if there is any."""

    items_passed: int
    """Items of finished batches, and the progress of items in work: each stage that an item has
    passed, and its kernel call, is an equal part of the item. Never less than before."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """Measurements of a run that ended, by completing or by `error`."""

    error: ServiceError | None
    measured: Measurements
    """The measurements of the run host; they count no rows, errors or stages."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """The outcome of an IngestCommand: a number of rows, or the error that ended it."""

    count: int
    error: ServiceError | None


class Called(NamedTuple):
    """The outcome of a CallCommand: the outputs of all items, or the error that all calls share."""

    columns: Columns
    """The output columns; the rows of failed items mean nothing."""
    failed: Mapping[int, ItemError]
    """The items that failed, by position."""
    checksums: tuple[int, ...]
    """The checksum of each call's rows."""
    seconds: float
    """Seconds that the kernel call took."""
    error: ServiceError | None = None


@dataclass(frozen=True, slots=True)
class CalibrationProgress:
    """The share of a calibration's planned measurements that are done, 0 … 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The outcome of a CalibrateCommand: either the constants, or the error that ended it."""

    calibration: Calibration | None
    error: ServiceError | None


Command = RunCommand | IngestCommand | CalibrateCommand | CallCommand | CancelCommand
RunEvent = RunStarted | Batches | Progress | BreakerReport | RunReport
Event = Ready | RunEvent | Ingested | Called | CalibrationProgress | Calibrated
