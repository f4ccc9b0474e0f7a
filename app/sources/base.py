"""The two protocols of a source, and the records they share.

`Items` has the number of items and loads their columns by range; a `Stage` is an I/O step that
every item passes before it is computed. Both are small, frozen and picklable: worker processes get
them with the plan, and open connections and files themselves.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hotloop.kernels.contract import Value

Columns = dict[str, npt.NDArray[Any]]
"""Column name to array: 1-D, or 2-D for a column of vectors; all of one length."""

Positions = Sequence[int]
"""Items of a batch by their place in it, 0 … count - 1, each once."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A contiguous range of items: positions `start … start + count - 1` of a run."""

    index: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class ItemError:
    """An item that could not be fetched: the stage, and the reason in words fit for a client."""

    item_id: int
    stage: str
    reason: str


class ItemFetchError(Exception):
    """An item could not be fetched; the text is fit for a client (no address, no secret)."""


@dataclass(slots=True)
class StageCounts:
    """Counts of a stage's work for some items; simulated stages count nothing."""

    calls: int = 0
    """Requests sent, retries included."""
    retries: int = 0
    hits: int = 0
    """Items that the source had."""
    misses: int = 0
    """Items that the source lacked; they took the default, or went on to the next stage."""

    def add(self, other: StageCounts) -> None:
        self.calls += other.calls
        self.retries += other.retries
        self.hits += other.hits
        self.misses += other.misses


@dataclass(slots=True)
class ItemBatch:
    """The inputs of a batch: `item_ids` int64[n] and the workload's columns, each of length n.

    A stage that fails for an item calls `fail`; such an item is not computed and its output row is
    null. A stage after which an item needs no further stage puts it into `complete`.
    """

    item_ids: npt.NDArray[np.int64]
    columns: Columns
    failed: dict[int, ItemError] = field(default_factory=dict)
    complete: set[int] = field(default_factory=set)
    counts: dict[str, StageCounts] = field(default_factory=dict)
    begun_ns: int = field(default_factory=time.time_ns)
    """Time at which the items were loaded, in nanoseconds since 1970."""

    def fail(self, position: int, stage: str, reason: str) -> None:
        self.failed[position] = ItemError(int(self.item_ids[position]), stage, reason)

    def waiting(self, positions: Positions) -> Positions:
        """Select the `positions` that the next stage must still fetch."""
        if not self.failed and not self.complete:
            return positions
        return [p for p in positions if p not in self.failed and p not in self.complete]

    def counts_of(self, stage: str) -> StageCounts:
        return self.counts.setdefault(stage, StageCounts())


class Items(Protocol):
    """The items of a run. `load` may be called from any thread or process, in any order."""

    @property
    def count(self) -> int: ...

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        """Load the inputs of the items at positions `start … start + count - 1`."""
        ...


class Stage(Protocol):
    """An I/O step: fetches some items of a batch, in place, and counts its work.

    An exception from `fetch…` fails all items of the call, not the run; the client reads the text
    of an ItemFetchError, and only the type of any other exception. An error of a single item is
    reported with `batch.fail`.
    """

    @property
    def name(self) -> str:
        """The stage's place in the run: `db` or `cache`."""
        ...

    @property
    def source(self) -> str:
        """The kind of the source: `simulated`, `redis`, `pinot`, …"""
        ...

    @property
    def batched(self) -> bool:
        """True if a call asks for all its items at once, so that more items take hardly longer."""
        ...

    @property
    def seconds_per_call(self) -> float:
        """Seconds a call is expected to take (for one item when not `batched`); for estimates."""
        ...

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        """Fetch, blocking; return early, without a result, once `stop` is set."""
        ...

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None: ...


Parameters = Mapping[str, Value]
