"""Requests for comparisons of strategy × kernel, and their answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.schemas.base import (
    UNLINKED,
    RequestModel,
    ResponseModel,
    SuggestedRun,
    TaskId,
    TaskLinks,
)
from hotloop.app.schemas.options import AUTO, DEFAULT_WORKLOAD, AnyKernel, BatchSize, KernelName
from hotloop.app.schemas.results import Caution, Count, Seconds, Share
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.wording import RULE

BACKGROUND = "background"

CellStrategy = StrategyName | Literal["background"]
"""A strategy; or `background`: the strategy of `auto`, with results and progress in the store."""


class CellStatus(StrEnum):
    """The origin of a cell's seconds."""

    PENDING = "pending"
    """The cell is not measured yet: the comparison is going on, or ended before."""
    MEASURED = "measured"
    """The cell was measured on all items."""
    PROJECTED = "projected"
    """The cell was measured on fewer items, because all would take too much of the budget."""
    SKIPPED = "skipped"
    """The cell was not measured; `reason` says why."""


class CellFlag(StrEnum):
    """A caution about a cell."""

    OUTLIERS = "outliers"
    """A round lies far outside the others; it is kept. Far is more than 1.5 interquartile ranges
    outside the quartiles."""
    WIDE_SPREAD = "wide-spread"
    """The rounds lie more than 10 % apart: from the lower to the upper quartile."""
    SHORT_SAMPLE = "short-sample"
    """A round takes less than a millisecond: the clock and the scheduler decide."""
    FEW_ROUNDS = "few-rounds"
    """Fewer rounds than asked for: the budget was used up."""
    THROTTLED = "throttled"
    """The container's CPU quota held the processes back."""
    DISTURBED = "disturbed"
    """Something else was executing in the service at the same time."""
    FAILED_ITEMS = "failed-items"
    """Some items failed, so the cell did less work."""
    IDLE_WORKERS = "idle-workers"
    """The batch size that was asked for makes fewer batches than there are workers."""
    ONE_ITEM = "one-item"
    """Projected from rounds of one item: the interval is wide, and the cell cannot win."""


def _without_repeats(values: tuple[object, ...]) -> tuple[object, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError(RULE, "must name each only once; leave the repeated ones out")
    return values


class CompareRequest(RunRequest):
    """Body of a comparison: the fields of a run, and what to compare. `{}` compares everything."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items_count": 1000, "workers": 4},
                {"items_count": 20_000, "db": "none", "cache": "none", "kernels": ["cython"]},
            ]
        },
    )

    strategies: (
        Annotated[
            tuple[StrategyName, ...],
            Field(min_length=1, strict=False),
            AfterValidator(_without_repeats),
        ]
        | None
    ) = None
    """Strategies to compare; all that the service has when left out."""

    kernels: (
        Annotated[
            tuple[KernelName, ...],
            Field(min_length=1, strict=False),
            AfterValidator(_without_repeats),
        ]
        | None
    ) = None
    """Kernels to compare; all of the workload when left out. `kernel` says for which of them the
    fields `sequential_time` … are given."""

    rounds: int = Field(default=5, ge=1, le=100)
    """Timed rounds over all cells, each in a new order, after an untimed round."""

    budget_seconds: float = Field(default=120.0, ge=1, le=86_400)
    """Seconds that measuring may take, set-up excluded; a cell too slow for its share is
    projected."""

    setup_budget_seconds: float = Field(default=60.0, ge=1, le=86_400)
    """Further seconds for set-up: starting pools and compiling kernels. A cell whose set-up does
    not fit in the rest is skipped."""

    exact: bool = False
    """True: every cell is measured on all items, however long it takes."""

    @model_validator(mode="after")
    def _kernel_is_compared(self) -> Self:
        kernels = self.kernels or ()
        if kernels and self.kernel not in (AUTO, *kernels):
            raise PydanticCustomError(
                RULE,
                "must be one of kernels, or auto (got {got}); add it there",
                {"field": "kernel", "got": self.kernel},
            )
        return self


class CompareQuery(RequestModel):
    """The two fields that a comparison's query may have instead of its body."""

    items_count: int | None = Field(default=None, ge=1, le=10_000_000)
    """Number of items to generate."""

    workers: int | None = Field(default=None, ge=1, le=256)
    """Threads or processes asked for."""


class IntervalView(ResponseModel):
    """A 95 % interval."""

    low: Seconds
    high: Seconds


class CellName(ResponseModel):
    """A cell of the matrix."""

    strategy: CellStrategy
    kernel: AnyKernel


class Cell(CellName):
    """A strategy on a kernel. Fields that were not measured are null."""

    status: CellStatus
    reason: str | None
    """The reason why it was skipped, or the basis of its projection."""
    median_seconds: Seconds | None
    """The median of the rounds; for all items, also when projected."""
    interval_seconds: IntervalView | None
    """95 % bootstrap interval of the median."""
    seconds: list[Seconds]
    """Seconds of each timed round for all items, in the order of measurement."""
    rounds: Count
    batch_size: Annotated[int, Field(ge=1)] | None
    """The batch size for all items, as requested or chosen for this cell; null if the cell cannot
    run."""
    measured_items: Count
    """Items of a round: fewer than `items_count` when projected."""
    spread: Annotated[float, Field(ge=0)] | None
    """Interquartile range of the rounds ÷ median."""
    speedup: Annotated[float, Field(ge=0)] | None
    """Speedup over `sequential` × `python`."""
    efficiency: Annotated[float, Field(ge=0)] | None
    """Speedup over `sequential` on the same kernel ÷ workers that it used."""
    throughput_items_per_second: Annotated[float, Field(ge=0)] | None
    effective_workers: Count | None
    """Threads or processes that had something to do."""
    cpu_utilization: Share | None
    """Share of the usable CPUs, 0 … 1; median of the rounds. Null when these take less than 0.1 s:
    CPU time is counted in ticks of 10 ms."""
    peak_memory_bytes: Count | None
    """Peak memory of the first, untimed round, as `peak_memory_bytes` of a run; all pools were
    closed before it."""
    setup_seconds: Seconds | None
    """Seconds for pools and compiled kernels in the first, untimed round: a cold start."""
    event_loop_lag_p99_ms: Annotated[float, Field(ge=0)] | None
    """The delay of the API's event loop in the worst round."""
    throttled_seconds: Seconds | None
    """Time that the container's CPU quota held processes back; null without a quota."""
    checksum: str | None = Field(examples=["9f86d081884c7d65"])
    failed_items: Count
    flags: list[CellFlag]


class CellCaution(Caution):
    """A caution about cells of a comparison."""

    cells: list[CellName]
    where: str = Field(examples=["hybrid (all kernels), threading × numba"])
    """The cells, in few words."""


class Mismatch(ResponseModel):
    """Cells whose outputs must be equal and differ."""

    cells: list[CellName]
    detail: str = Field(examples=["checksums differ: 9f86d081884c7d65 and 0000d081884c7d65"])


class HostView(ResponseModel):
    """The machine that was measured."""

    python: str = Field(examples=["3.11.7"])
    gil: str = Field(pattern="^(on|off)$")
    system: str = Field(examples=["Linux 6.18 x86_64"])
    cpu: str = Field(examples=["AMD EPYC"])
    cpus: int = Field(ge=1)
    """CPUs of the machine."""
    usable_cpus: int = Field(ge=1)
    """CPUs that affinity and control groups leave."""
    memory_bytes: Count | None
    """Memory that this process may use."""
    load_before: float | None
    """Load average of the last minute, at the start."""
    load_after: float | None
    throttled_seconds: Seconds | None
    """Time that the container's CPU quota held processes back during the comparison."""
    instruction_sets: dict[str, str | None]
    """The instruction set of each kernel."""
    versions: dict[str, str] = Field(examples=[{"numpy": "2.4.6", "numba": "0.68.1"}])


class Comparison(ResponseModel):
    """The measurements of a comparison, and its verdict once it has ended."""

    task_id: TaskId
    task_type: TaskType
    status: TaskStatus
    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    kernel: AnyKernel
    """The kernel of the fields from `sequential_time` to `background_time`."""
    items_count: Count
    workers: int = Field(ge=1)
    batch_size: BatchSize
    """The requested size; each cell has its own."""
    io_concurrency: int = Field(ge=1)
    rounds: Count
    """Requested number of rounds."""
    budget_seconds: Seconds
    setup_budget_seconds: Seconds
    exact: bool
    start_time: AwareDatetime | None
    end_time: AwareDatetime | None
    duration_seconds: Seconds | None
    """Seconds so far, with set-up."""
    setup_seconds: Seconds
    """Set-up of all cells together."""
    error_message: str | None

    sequential_time: Seconds | None
    threading_time: Seconds | None
    multiprocessing_time: Seconds | None
    batch_async_time: Seconds | None
    concurrent_futures_time: Seconds | None
    hybrid_time: Seconds | None
    background_time: Seconds | None
    """Seconds from acceptance to the stored end, by the strategy that `auto` takes."""
    best_approach: str | None = Field(examples=["hybrid"])
    """The strategy with the least median on `kernel`; several that tie, joined by ` = `."""
    improvement_factor: Annotated[float, Field(ge=0)] | None
    """sequential_time ÷ the time of `best_approach`."""

    cells: list[Cell]
    """The cells, in the order of strategies, then kernels."""
    winner: CellName | None
    """The fastest cell, if its interval stands clear of the next one's; `background` never wins."""
    tied: list[CellName]
    """The fastest cell and the cells that tie with it; empty with a winner."""
    verdict: str
    """The verdict in words."""
    outputs_equal: bool | None
    """True if the outputs of `compared_cells` agreed; null if fewer than two were compared."""
    compared_cells: Count
    """Number of measured cells whose outputs were compared with another cell's."""
    mismatches: list[Mismatch]
    cautions: list[CellCaution] = Field(default=[])
    """The reasons of skipped and projected cells, and the meaning of flags; each once."""
    host: HostView | None
    curl: str | None = Field(default_factory=lambda: None)
    """The command that runs the winner, or the first of the tied."""
    links: TaskLinks = Field(default_factory=lambda: UNLINKED)
    suggested: SkipJsonSchema[SuggestedRun | None] = Field(default=None, exclude=True)
    """The run that `curl` starts; not in the answer itself."""
