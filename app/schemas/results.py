"""The answer of a run, and exports of results."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, ConfigDict, Field

from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.schemas.base import RequestModel, ResponseModel, TaskId
from hotloop.app.schemas.declared import example_result
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, AnyKernel, BatchSize

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class ResultRow(ResponseModel):
    """An item's result: its id and the workload's output columns. Null where the item failed, and
    for a float that is NaN or infinite, which JSON cannot hold; CSV and Arrow show it.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={"examples": [example_result(DEFAULT_WORKLOAD)]},
    )

    # The value's kind is kept: a float stays a float and an integer an integer.
    __pydantic_extra__: dict[str, bool | int | float | None]

    item_id: int


class ItemFailure(ResponseModel):
    """An item that failed in a stage."""

    item_id: int
    stage: str = Field(examples=["db"])
    """The stage in which it failed: `db`, `cache`, or `kernel` if a user's function raised."""
    reason: str = Field(examples=["timed out after 2 s"])


class StageView(ResponseModel):
    """The work of an I/O stage in a run. A simulated stage counts nothing."""

    stage: str = Field(examples=["cache"])
    source: str = Field(examples=["redis"])
    calls: Count
    """Requests sent, retries included."""
    retries: Count
    hits: Count
    """Items that the source had."""
    misses: Count
    """Items that the source lacked: they took the default, went on to the database, or failed."""
    hit_rate: Share | None
    """hits ÷ (hits + misses)."""


class LoopLag(ResponseModel):
    """Delays of the event loop of the API during the run, in milliseconds."""

    p50: float
    p99: float
    max: float


class RunFlag(StrEnum):
    """A caution about a run."""

    IDLE_WORKERS = "idle-workers"
    """The batch size that was asked for makes fewer batches than there are workers."""
    FAILED_CHECK = "failed-check"
    """`hotloop check` has found a fault in the kernel."""


class Caution(ResponseModel):
    """A caution about a result, in words."""

    name: str = Field(examples=["idle-workers"])
    """A flag; for cells of a comparison also the status that needs a reason."""
    text: str = Field(
        examples=["batch size 500 makes 2 batches for 4 workers; leave it out, or take at most 250"]
    )


class RunResult(ResponseModel):
    """A run with its measurements and its first five results."""

    task_id: TaskId
    task_type: TaskType
    status: TaskStatus

    items_processed: Count
    """Items handled so far, failed ones included."""
    total_items: Count
    start_time: AwareDatetime | None
    """The start of the run's clock, after the set-up; UTC."""
    end_time: AwareDatetime | None
    duration_seconds: Seconds | None
    """Seconds from start to end, set-up excluded."""
    results: Annotated[list[ResultRow], Field(max_length=5)]
    """The first five items; all of them are at `/api/v1/tasks/results/{task_id}`."""
    error_message: str | None
    """The reason why the run failed."""

    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    workload_version: str | None = Field(default=None, examples=["3f9c2e8b01da"])
    """The version of a user's code, 12 hexadecimal digits; null for built-in workloads."""
    kernel: AnyKernel
    """The kernel that was used, never `auto`."""
    certificate: str | None = Field(default=None, examples=["2e72dcb7d7e3c0f9"])
    """The hash of the kernel's certificate, which `hotloop check` has made; `failed` if it found a
    fault; null if it has not looked at this version."""
    strategy: StrategyName
    requested_workers: int = Field(ge=1)
    effective_workers: Count | None
    """Threads or processes that were used."""
    batch_size: Annotated[int, Field(ge=1)] | None
    """The used size; null if the service chooses it and the run has not begun."""
    requested_batch_size: BatchSize
    flags: list[RunFlag]
    cautions: list[Caution] = Field(default=[])
    """A sentence for each flag."""

    setup_seconds: Seconds | None
    """Seconds for pools and compiled kernels; not part of the duration."""
    throughput_items_per_second: Annotated[float, Field(ge=0)] | None
    """Items ÷ duration, set-up excluded."""
    throughput_with_setup_items_per_second: Annotated[float, Field(ge=0)] | None
    """Items ÷ (set-up + duration)."""
    io_seconds: Seconds | None
    """Seconds that workers spent in the I/O stages, added up over workers."""
    cpu_seconds: Seconds | None
    """CPU seconds of the run host and its workers during the duration."""
    cpu_utilization: Share | None
    """Share of the usable CPUs, 0 … 1."""
    peak_memory_bytes: Count | None
    """Peak memory of this run: the memory of its worker processes, and the growth of the run host's
    memory since the run began. Memory that processes share counts once; memory left by earlier runs
    does not count."""

    failed_items: Count
    error_rate: Share
    """failed_items ÷ items_processed."""
    errors: Annotated[list[ItemFailure], Field(max_length=100)]
    """The first 100 failed items."""
    stages: list[StageView]
    """The I/O stages that the items passed, in this order."""
    event_loop_lag_ms: LoopLag | None
    checksum: str | None = Field(pattern=r"^[0-9a-f]{16}$", examples=["9f86d081884c7d65"])
    """16 hexadecimal digits over all output columns' bits, independent of the order of items: equal
    for equal kernels whatever the strategy."""


class ExportFormat(StrEnum):
    """A file format of results."""

    NDJSON = "ndjson"
    CSV = "csv"
    ARROW = "arrow"
    PARQUET = "parquet"


class ExportQuery(RequestModel):
    """The results to export, and their format."""

    format: ExportFormat | None = None
    """File format; overrides the Accept header."""
    offset: int = Field(default=0, ge=0, le=2**53)
    """Number of first items to leave out; unprocessed items count, too."""
    limit: int | None = Field(default=None, ge=1, le=10_000_000)
    """Items on a page, counted like `offset`; all by default."""


@dataclass(frozen=True, slots=True)
class Export:
    """The requested results as a stream."""

    pieces: AsyncGenerator[bytes, None]
    next_offset: int | None
    """The offset of the next page; None after the last one."""
