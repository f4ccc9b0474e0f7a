"""The protocol of strategies: the plan to execute, the results, and the progress.

Progress of batches in work is counted in steps: each stage that an item has passed is a step, and
its kernel call is another. Threads count in an object of the batch. A worker process counts in its
own word of memory that it shares with the run host: the upper half names the batch, the lower half
has the steps, so that one store changes both. Every counter has one writer at a time, so none needs
a lock.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, MutableSequence
from dataclasses import dataclass, field
from typing import Final, Protocol

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
from hotloop.kernels.contract import WorkloadSource


@dataclass(frozen=True, slots=True)
class Plan:
    """All data that a run host needs to execute a run; picklable and already validated."""

    workload: str
    kernel: str
    strategy: StrategyName
    items: Items
    stages: tuple[Stage, ...]
    """I/O steps that wait; the plan leaves out a stage that answers at once."""
    parameters: Parameters
    """Values of all parameters of the workload."""
    batch_size: int
    workers: int
    io_concurrency: int
    group_size: int = 1
    """Items that pass the stages together; several if a stage asks for many at once."""
    ranges: tuple[tuple[int, int], ...] | None = None
    """(start, count) of the items to execute, ascending; None for all."""
    timeout_seconds: float | None = None
    max_error_rate: float = 1.0
    max_batch_retries: int = 3
    """The most times that a batch is tried again after the death of its worker."""
    slice_items: int | None = None
    """Items of one kernel call. A call for many more is cut into several, to show its progress;
    that changes no bit of the results. None means never."""
    origin: Origin = NOWHERE
    """The request and task that every process names in its log lines for this plan."""
    source: WorkloadSource | None = None
    """The user's function to import, and its version, if the workload is one."""
    memory_bytes: int | None = None
    """Memory that a user's function may take in each process; None if it is not bounded."""
    batch_seconds: float = 0.0
    """Seconds that a batch is predicted to take in its worker; 0 if that is not known."""

    @property
    def item_ranges(self) -> tuple[tuple[int, int], ...]:
        """(start, count) of the items to execute."""
        return ((0, self.items.count),) if self.ranges is None else self.ranges

    @property
    def item_count(self) -> int:
        """The number of items to execute."""
        return sum(count for _, count in self.item_ranges)


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources that a worker outside of the run host's process tree has used."""

    worker: str
    """The worker process, by a name that no other one has."""
    cpu_seconds: float
    """CPU seconds since the worker's last report in this run."""
    peak_bytes: int
    """The most resident memory that the process ever had."""


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
    """Calls, retries, hits and misses of each stage, by its name."""
    breakers: tuple[BreakerReport, ...] = ()
    """The breakers of the worker's process that have ever opened."""
    begun_ns: int = 0
    """Time at which the batch's items were loaded, in nanoseconds since 1970."""
    ended_ns: int = 0
    """Time at which the batch was computed, in nanoseconds since 1970."""
    pid: int = 0
    """The process that computed the batch."""
    usage: Usage | None = None
    """A report of a worker on a cluster, which nothing here can measure."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Properties of a strategy that callers may rely on, as data."""

    parallel: bool
    """True if it computes several batches at once when workers > 1."""
    shares_memory: bool
    """True if workers are in the run host's process."""
    needs_gil_release: bool
    """True if it computes in parallel only with kernels that release the GIL."""
    overlaps_io: bool
    """True if one worker waits for many items at once."""
    cancellable: str
    """The moment at which a cancelled run stops, in words."""


class Strategy(Protocol):
    """Executes plans, one at a time.

    `prepare` starts pools and compiles kernels, and returns the number of workers that will be
    used; its time is the run's set-up, apart from its duration. `run` yields the result of every
    batch exactly once, in any order; it loads the plan's items lazily and holds a bounded number of
    batches. Closing the generator early cancels the run: it returns once nothing of the run is
    executing any more. `close` frees all resources. Raises WorkerCrashedError if a batch killed its
    workers too often.
    """

    @property
    def name(self) -> StrategyName: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def in_flight(self) -> InFlight:
        """Return the progress of the batches whose results `run` has not yielded yet."""
        ...

    async def prepare(self, plan: Plan) -> int: ...

    def run(self, plan: Plan) -> AsyncGenerator[BatchResult, None]: ...

    def worker_pids(self, plan: Plan) -> list[int]:
        """Return the existing processes that would work for this plan."""
        ...

    async def close(self) -> None: ...


_HALF: Final = 32

Words = MutableSequence[int]
"""Shared memory with a word of 64 bits for each worker process of a pool."""


class Steps(Protocol):
    """Steps that the items of one batch have passed."""

    count: int


@dataclass(slots=True)
class StepCount:
    """Steps that are counted in this process."""

    count: int = 0


class _SharedStepCount:
    """Steps that a worker process counts in memory that it shares with the run host."""

    __slots__ = ("_base", "_count", "_place", "_words")

    def __init__(self, words: Words, place: int, batch: Batch) -> None:
        self._words = words
        self._place = place
        self._base = (batch.index + 1) << _HALF
        self.count = 0

    @property
    def count(self) -> int:
        return self._count

    @count.setter
    def count(self, count: int) -> None:
        self._count = count
        self._words[self._place] = self._base | count


_mine: tuple[Words, int] | None = None


def count_in(words: Words, place: int) -> None:
    """Let this process, which is a worker, count its steps in one of the words from now on."""
    global _mine
    _mine = words, place


def steps_of(batch: Batch) -> Steps:
    """Make the counter for a batch that this process begins to work on."""
    return StepCount() if _mine is None else _SharedStepCount(*_mine, batch)


class InFlight:
    """The batches of a run whose results were not yielded yet."""

    def __init__(self) -> None:
        self._open: dict[int, StepCount] = {}
        self._words: Callable[[], Words] = list

    def begin(self, words: Callable[[], Words] = list) -> None:
        """Begin a run, whose worker processes are idle now. They count in the memory that `words`
        returns, which changes after a worker has died.
        """
        self._open.clear()
        self._words = words
        for place in range(len(words())):
            words()[place] = 0

    def enter(self, batch: Batch) -> StepCount:
        """Note that a batch is in work, and return the counter for this process's part of it."""
        steps = self._open[batch.index] = StepCount()
        return steps

    def leave(self, batch: Batch) -> None:
        """Note that the result of a batch is yielded."""
        self._open.pop(batch.index, None)

    def steps(self) -> int:
        """Return the steps that items of batches in work have passed by now."""
        total = sum(steps.count for steps in self._open.values())
        for word in self._words():
            if (word >> _HALF) - 1 in self._open:
                total += word & ((1 << _HALF) - 1)
        return total
