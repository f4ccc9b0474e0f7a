"""Recommendations: the fastest ways to run a request, by calibration and cost model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field
from pydantic.json_schema import SkipJsonSchema

from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import ResponseModel, SuggestedRun, TaskId
from hotloop.app.schemas.comparison import HostView, IntervalView
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, AnyKernel
from hotloop.app.schemas.results import Count, Seconds
from hotloop.app.schemas.runs import WorkloadOptions


class CalibrationStatus(StrEnum):
    """The state of the last calibration."""

    NONE = "none"
    """The machine, with its present versions and limits, is not calibrated yet."""
    RUNNING = "running"
    """The calibration waits for a run host, or measures."""
    COMPLETED = "completed"
    """The calibration has ended, and predictions use it."""
    FAILED = "failed"
    """The calibration failed, see `error_message`; predictions use the constants from before."""


class CalibrationState(ResponseModel):
    """The last calibration, as the answering process knows it."""

    status: CalibrationStatus
    progress: Annotated[float, Field(ge=0, le=1)]
    """Share of the planned measurements that are done; 0 while it waits for a run host."""
    started_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    estimated_remaining_seconds: Seconds | None
    """Seconds until it ends; null when it is not running."""
    error_message: str | None
    """The reason why it failed."""


class RecommendationQuery(WorkloadOptions):
    """The fields of a run's body except its items. `kernel`, `workers`, `batch_size` and
    `io_concurrency` are kept if you give them, else chosen for you; `strategy` restricts the
    choice.
    """

    items_count: int = Field(default=50_000, ge=1, le=10_000_000)
    """Number of items to generate."""

    strategy: StrategyName | None = None
    """The only strategy to consider."""

    limit: int = Field(default=20, ge=1, le=1_000)
    """The number of choices that `ranked` lists."""

    wait: bool = False
    """True: wait for the calibration of the machine, if it is missing or in progress, instead of
    answering at once."""


class Limit(StrEnum):
    """The limit that keeps a choice from being faster."""

    IO = "io"
    """Waiting for the sources with the given items in flight."""
    CPU = "cpu"
    """The kernel, on the CPUs that it can use."""
    GIL = "gil"
    """A kernel that lets only one thread compute at a time."""
    OVERHEAD = "overhead"
    """Starting, batches and messages, not the items."""
    MEMORY = "memory"
    """More predicted memory than there is; the choice is ranked last."""


class RankedChoice(ResponseModel):
    """A way to run the request, with its prediction."""

    rank: int = Field(ge=1)
    strategy: StrategyName
    kernel: AnyKernel
    workers: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    io_concurrency: int = Field(ge=1)
    predicted_seconds: Seconds
    """Seconds from start to end without set-up, as `duration_seconds` of a result."""
    interval_seconds: IntervalView
    """The interval that 9 of 10 runs should fall into, by the errors of predictions so far; wide
    before the machine is calibrated."""
    setup_seconds: Seconds
    """Seconds for pools and compiled kernels on a run host that has just started."""
    memory_bytes: Count
    """Peak bytes of the run host and its children."""
    limited_by: Limit


class KernelCalibration(ResponseModel):
    """A kernel as calibrated: seconds(b) = seconds_per_call + b × seconds_per_item."""

    workload: str
    kernel: AnyKernel
    available: bool
    seconds_per_call: Seconds | None
    seconds_per_item: Seconds | None
    """Seconds with the parameters of the query; with its defaults for another workload."""
    parallel_speedup: float | None
    """Measured speedup of two threads or processes (whichever the kernel uses) over one."""


class StrategyCalibration(ResponseModel):
    """The cost of a strategy beside kernel and I/O."""

    strategy: StrategyName
    start_seconds: Seconds
    """Seconds that every run costs, however short."""
    batch_seconds: Seconds
    """Seconds for each further batch beside its computing, while all CPUs are busy."""
    empty_batch_seconds: Seconds
    """Seconds for each further batch that has nothing to do."""
    item_seconds: Seconds
    """Seconds for each item that passes a simulated or real stage."""
    setup_seconds: Seconds
    """Seconds to start the pools of a cold run host."""
    worker_memory_bytes: Count
    """Memory of each worker."""


class ClusterCalibration(ResponseModel):
    """The cost of a strategy on a cluster beside kernel and I/O."""

    strategy: StrategyName
    workers: int = Field(ge=1)
    setup_seconds: Seconds
    """Seconds to connect and to prepare all workers."""
    start_seconds: Seconds
    """Seconds that every run costs, however short."""
    parcel_seconds: Seconds
    """Seconds for each further parcel of batches."""
    item_seconds: Seconds
    byte_seconds: Seconds
    """Seconds to send a byte of an item that workers do not make up."""
    slowdown: Annotated[float, Field(gt=0)]
    """Seconds of a kernel on a busy worker ÷ its seconds alone on this machine."""


class CalibrationView(ResponseModel):
    """The basis of predictions."""

    calibrated_at: AwareDatetime | None
    """Time of the calibration. Null before the first one: the constants are then typical figures,
    scaled by the speed of the kernels on this machine."""
    age_seconds: Seconds | None
    duration_seconds: Seconds | None
    """Seconds that calibrating took."""
    fingerprint: str
    """A digest of machine, versions and settings; a change leads to a new calibration."""
    host: HostView
    kernels: list[KernelCalibration]
    strategies: list[StrategyCalibration]
    clusters: list[ClusterCalibration] = Field(default=[])
    """The clusters that were measured and can be reached."""


class PredictionRecord(ResponseModel):
    """A finished run and its prediction."""

    task_id: TaskId
    strategy: StrategyName
    kernel: AnyKernel
    predicted_seconds: Seconds
    measured_seconds: Seconds
    ratio: Annotated[float, Field(ge=0)]
    """predicted ÷ measured."""


class PredictionError(ResponseModel):
    """The accuracy of predictions for the last finished runs."""

    runs: Count
    median_ratio: Annotated[float, Field(ge=0)] | None
    """The median of predicted ÷ measured seconds; below 1 the runs took longer than predicted."""
    within_25_percent: Annotated[float, Field(ge=0, le=1)] | None
    """Share of runs with a ratio of 0.8 … 1.25."""
    last: list[PredictionRecord]
    """The last runs, newest first, at most 20."""


class Guideline(ResponseModel):
    """General advice for a kind of work."""

    work: str = Field(examples=["I/O-heavy"])
    advice: str


class Recommendation(ResponseModel):
    """A recommendation, its reasons, and its reliability."""

    items_count: Count
    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    recommended: RankedChoice
    explanation: str
    """The reason for the first choice, and its limit, in words."""
    lower_bound_seconds: Seconds
    """max(waiting at the largest io_concurrency, computing on all CPUs): nothing can be faster."""
    curl: str = Field(default_factory=str)
    """The command that runs the recommendation."""
    suggested: SkipJsonSchema[SuggestedRun | None] = Field(default=None, exclude=True)
    """The run that `curl` starts; not in the answer itself."""
    ranked: list[RankedChoice]
    considered: Count
    """Choices that were ranked."""
    calibrated: bool
    """True if predictions use a calibration of this machine, not typical figures."""
    calibrating: CalibrationState | None
    """The calibration in progress; null without one."""
    calibration: CalibrationView
    prediction_error: PredictionError
    guidelines: list[Guideline]
