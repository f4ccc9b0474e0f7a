"""What a strategy gets, what it gives, and the protocol between the two."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hotloop.app.logs.origin import NOWHERE, Origin
from hotloop.app.names import StrategyName
from hotloop.app.sources.base import (
    Batch,
    Columns,
    ItemError,
    Items,
    Parameters,
    Stage,
    StageCounts,
)
from hotloop.app.sources.breaker_reports import BreakerReport
from hotloop.app.strategies.in_flight import InFlight


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a run host needs to execute a run; picklable, complete, already validated."""

    workload: str
    kernel: str
    strategy: StrategyName
    items: Items
    stages: tuple[Stage, ...]
    """I/O steps that wait; one that answers at once is left out by whoever makes the plan."""
    parameters: Parameters
    """Resolved: every parameter of the workload has a value."""
    batch_size: int
    workers: int
    io_concurrency: int
    group_size: int = 1
    """Items that pass the stages together: more than one when a stage asks for many at once."""
    ranges: tuple[tuple[int, int], ...] | None = None
    """(start, count) of the items to execute, ascending; None for all."""
    timeout_seconds: float | None = None
    max_error_rate: float = 1.0
    max_batch_retries: int = 3
    """How often a batch is tried again after the worker that had it died."""
    slice_items: int | None = None
    """A kernel call for many more items than these is cut into calls of so many, which changes no
    bit, so that progress is seen within a long one; None for never."""
    origin: Origin = NOWHERE
    """What the logs of every process that works on it name."""

    @property
    def item_ranges(self) -> tuple[tuple[int, int], ...]:
        """(start, count) of the items to execute."""
        return ((0, self.items.count),) if self.ranges is None else self.ranges

    @property
    def item_count(self) -> int:
        """How many items are to be executed."""
        return sum(count for _, count in self.item_ranges)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Outputs of one batch, in the order of its items.

    `columns` has the workload's output columns, each of length n; the rows of `failed` items
    (bool[n]) hold zeros and mean nothing. `checksum` is the sum of the rows' hashes modulo
    2**64 (`hotloop.app.strategies.checksum`), failed rows left out.
    """

    batch: Batch
    item_ids: npt.NDArray[np.int64]
    columns: Columns
    failed: npt.NDArray[np.bool_]
    errors: tuple[ItemError, ...]
    checksum: int
    io_seconds: float
    """Seconds spent in the I/O stages by the worker that had the batch."""
    counts: Mapping[str, StageCounts] = field(default_factory=dict)
    """What the stages did, by their name."""
    breakers: tuple[BreakerReport, ...] = ()
    """Those of the worker's process that were ever opened."""
    begun_ns: int = 0
    """When its items were loaded, and when it was computed, in nanoseconds since 1970."""
    ended_ns: int = 0
    pid: int = 0
    """The process that computed it."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What callers may rely on, as data; nobody asks the class."""

    parallel: bool
    """Computes more than one batch at once when workers > 1."""
    shares_memory: bool
    """Workers live in the run host's process."""
    needs_gil_release: bool
    """Computes in parallel only with kernels that release the GIL."""
    overlaps_io: bool
    """Waits for many items at once within one worker."""
    cancellable: str
    """What a cancelled run still finishes, in words."""


class Strategy(Protocol):
    """Executes plans, one at a time.

    `prepare` brings up what the run needs (pools, compiled kernels) and returns the number of
    workers that will really be used; its time is the run's set-up, kept apart from its
    duration. `run` gives every batch's result exactly once, in any order; it consumes the
    plan's items lazily and holds a bounded number of batches. Closing the generator early
    cancels: it returns once nothing of the run is executing any more. `close` gives back
    everything. Raises WorkerCrashedError when a batch killed its workers too often.
    """

    @property
    def name(self) -> StrategyName: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def in_flight(self) -> InFlight:
        """The progress of batches whose results `run` has not given yet."""
        ...

    async def prepare(self, plan: Plan) -> int: ...

    def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]: ...

    def worker_pids(self, plan: Plan) -> list[int]:
        """The processes that would work for this plan, of those that there are now."""
        ...

    async def close(self) -> None: ...
