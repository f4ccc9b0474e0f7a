"""Simulated items and simulated I/O: what a service without a database runs on."""

from __future__ import annotations

import asyncio
import random
import threading
from dataclasses import dataclass

import numpy as np

from app.sources.base import ItemBatch
from kernels import get_workload


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

    def fetch(self, batch: ItemBatch, position: int, stop: threading.Event) -> None:
        stop.wait(random.uniform(self.low_seconds, self.high_seconds))

    async def fetch_async(self, batch: ItemBatch, position: int) -> None:
        await asyncio.sleep(random.uniform(self.low_seconds, self.high_seconds))

    def expected_seconds(self) -> float:
        return (self.low_seconds + self.high_seconds) / 2
