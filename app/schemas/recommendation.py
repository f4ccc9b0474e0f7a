"""Recommendations: the fastest ways to run something here, by calibration and cost model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, Field
from pydantic.json_schema import SkipJsonSchema

from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import ResponseModel, SuggestedRun, TaskId
from hotloop.app.schemas.comparison import HostView, IntervalView
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, KernelName
from hotloop.app.schemas.results import Count, Seconds
from hotloop.app.schemas.runs import FlatRunOptions


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
    """Seconds until it ends; null when it is not running."""
    error_message: str | None
    """The reason why it failed."""


class RecommendationQuery(FlatRunOptions):
    """The fields of a run's body, flat. `kernel`, `workers`, `batch_size` and `io_concurrency` are
    chosen unless they are given; `strategy` restricts the choice.
    """

    items_count: int = Field(default=50_000, ge=1, le=10_000_000)
    """Items to make up."""

    strategy: StrategyName | None = None
    """The only strategy to consider."""

    limit: int = Field(default=20, ge=1, le=1_000)
    """The number of choices that `ranked` lists."""

    wait: bool = False
    """True: wait for the calibration of the machine, where there is none yet or one is in progress,
    instead of answering at once."""


class Limit(StrEnum):
    """The limit that keeps a choice from being faster."""

    IO = "io"
    """Waiting for sources with so many items in flight."""
    CPU = "cpu"
    """The kernel, on the CPUs that it can use."""
    GIL = "gil"
    """A kernel that lets only one thread compute at a time."""
    OVERHEAD = "overhead"
    """Starting, batches and messages rather than items."""
    MEMORY = "memory"
    """Predicted to need more memory than there is: it is ranked last."""


class RankedChoice(ResponseModel):
    """A way to run it, and what the model predicts."""

    rank: int = Field(ge=1)
    strategy: StrategyName
    kernel: KernelName
    workers: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    io_concurrency: int = Field(ge=1)
    predicted_seconds: Seconds
    """Seconds from start to end without set-up, as `duration_seconds` of a result."""
    interval_seconds: IntervalView
    """The interval that 9 of 10 runs should fall into, by the errors of predictions so far; wide
    before the machine is calibrated."""
    setup_seconds: Seconds
    """Pools and compiled kernels of a run host that has just started."""
    memory_bytes: Count
    """Run host and its children at their peak."""
    limited_by: Limit


class KernelCalibration(ResponseModel):
    """A kernel as calibrated: seconds(b) = seconds_per_call + b × seconds_per_item."""

    workload: str
    kernel: KernelName
    available: bool
    seconds_per_call: Seconds | None
    seconds_per_item: Seconds | None
    """Seconds with the parameters of the query; with its defaults for another workload."""
    parallel_speedup: float | None
    """Two threads or processes (as it takes) against one, measured."""


class StrategyCalibration(ResponseModel):
    """The cost of a strategy beside kernel and I/O."""

    strategy: StrategyName
    start_seconds: Seconds
    """Seconds that every run costs, however short."""
    batch_seconds: Seconds
    """Seconds for each further batch beside its computing, while that keeps all CPUs busy."""
    empty_batch_seconds: Seconds
    """Seconds for each further batch that has nothing to do."""
    item_seconds: Seconds
    """Seconds for each item that passes a simulated or real stage."""
    setup_seconds: Seconds
    """Pools of a cold run host."""
    worker_memory_bytes: Count
    """Memory of each worker."""


class CalibrationView(ResponseModel):
    """The basis of predictions."""

    calibrated_at: AwareDatetime | None
    """Null before the first calibration: the constants are typical ones, scaled by how fast the
    kernels are here."""
    age_seconds: Seconds | None
    duration_seconds: Seconds | None
    """Seconds that calibrating took."""
    fingerprint: str
    """A digest of machine, versions and settings: a change calibrates anew."""
    host: HostView
    kernels: list[KernelCalibration]
    strategies: list[StrategyCalibration]


class PredictionRecord(ResponseModel):
    """A finished run against its prediction."""

    task_id: TaskId
    strategy: StrategyName
    kernel: KernelName
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
    """The newest first, at most 20."""


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
    """The reason why it is first, and what limits it, in words."""
    lower_bound_seconds: Seconds
    """max(waiting at the largest io_concurrency, computing on all CPUs): nothing can be faster."""
    curl: str = Field(default_factory=str)
    """The command that runs the recommendation."""
    suggested: SkipJsonSchema[SuggestedRun | None] = Field(default=None, exclude=True)
    """What `curl` runs; not in the answer itself."""
    ranked: list[RankedChoice]
    considered: Count
    """Choices that were ranked."""
    calibrated: bool
    """True if predictions rest on a calibration of this machine, not on typical figures."""
    calibrating: CalibrationState | None
    """The calibration in progress; null while there is none."""
    calibration: CalibrationView
    prediction_error: PredictionError
    guidelines: list[Guideline]
