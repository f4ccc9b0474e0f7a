"""Simulated items and simulated I/O: what a service without a database runs on."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass

import numpy as np

from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.app.sources.timers import wait
from hotloop.kernels import get_workload


@dataclass(frozen=True, slots=True)
class GeneratedItems:
    """Items 0 … count - 1 with the columns that the workload defines for a simulated item."""

    count: int

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        item_ids = np.arange(start, start + count, dtype=np.int64)
        return ItemBatch(item_ids, get_workload(workload).simulated_columns(item_ids))


@dataclass(frozen=True, slots=True)
class SimulatedStage:
    """Waits between `low_seconds` and `high_seconds` (uniform) for every item."""

    name: str
    low_seconds: float
    high_seconds: float
    source: str = "simulated"
    batched: bool = False

    @property
    def seconds_per_call(self) -> float:
        return (self.low_seconds + self.high_seconds) / 2

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        for _ in positions:
            stop.wait(random.uniform(self.low_seconds, self.high_seconds))

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        """The items wait side by side, so that the longest wait is the call's."""
        longest = random.random() ** (1 / len(positions))  # as the largest of that many numbers
        await wait(self.low_seconds + (self.high_seconds - self.low_seconds) * longest)
