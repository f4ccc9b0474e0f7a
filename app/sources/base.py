"""The two protocols of a source, and the records they share.

`Items` says which items there are and gives their columns by range; a `Stage` is an I/O step
that every item passes before it is computed. Both are small, frozen and picklable: worker
processes get them with the plan and open what they need themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[Any]]
"""Column name to 1-D array; all of one length."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A contiguous range of items: positions `start … start + count - 1` of a run."""

    index: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class ItemError:
    """An item that could not be had: at which stage, and why, in words fit for a client."""

    item_id: int
    stage: str
    reason: str


class ItemFetchError(Exception):
    """An item could not be had; the text is fit for a client (no address, no secret)."""


@dataclass(slots=True)
class ItemBatch:
    """The inputs of a batch: `item_ids` int64[n] and the workload's columns, each of length n.

    A stage that fails for an item calls `fail`; such an item is not computed and its output
    row is null.
    """

    item_ids: npt.NDArray[np.int64]
    columns: Columns
    failed: dict[int, ItemError] = field(default_factory=dict)

    def fail(self, position: int, stage: str, reason: str) -> None:
        self.failed[position] = ItemError(int(self.item_ids[position]), stage, reason)


class Items(Protocol):
    """Items of a run. `load` may be called from any thread or process, in any order."""

    @property
    def count(self) -> int: ...

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        """Inputs of the items at positions `start … start + count - 1`, in memory."""
        ...


class Stage(Protocol):
    """An I/O step.

    An exception from `fetch…` fails that item, not the run; the client reads the text of an
    ItemFetchError, and of any other only the kind.
    """

    @property
    def name(self) -> str: ...

    def fetch(self, batch: ItemBatch, position: int, stop: threading.Event) -> None:
        """Blocking: returns early, without a result, once `stop` is set."""
        ...

    async def fetch_async(self, batch: ItemBatch, position: int) -> None: ...

    def expected_seconds(self) -> float:
        """Seconds one item is expected to spend here; for estimates only."""
        ...


Parameters = Mapping[str, int]
