"""The loop of a comparison: chooses the next cell to measure, until the budget is used up.

All I/O is behind `Measure`, `Save` and the clock, so that tests can simulate a machine.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from hotloop.app.comparison.record import CellRecord, ComparisonRecord, Sample, Size
from hotloop.app.errors import (
    NotReadyError,
    RunCancelledError,
    RunHostDiedError,
    RunTimeoutError,
    ServiceError,
    StoreError,
    TaskConflictError,
    TaskNotFoundError,
    WorkerCrashedError,
)

MAX_DEATHS: Final = 3
"""Executions of a cell that kill a process before the cell is skipped."""

OVERHEAD_SECONDS: Final = 0.05
"""Assumed overhead of a cell's first execution, on top of its estimate."""

LEAST_SECONDS: Final = 1.0
"""Shortest timeout of an execution, even if less is left of the budget."""

NO_TIME: Final = "the budget was used up before it could be measured; raise budget_seconds"

_OURS: Final = (RunCancelledError, StoreError, TaskConflictError, TaskNotFoundError, NotReadyError)
"""Errors that end the comparison, because no cell caused them."""


class Measure(Protocol):
    """Function that executes a cell once."""

    async def __call__(
        self,
        cell: CellRecord,
        size: Size,
        round_number: int,
        *,
        cold: bool,
        timeout_seconds: float | None,
    ) -> Sample:
        """Return the sample; `cold` starts with new pools. Raises a ServiceError; after one of
        DEATHS all pools are cold again.
        """
        ...


DEATHS: Final = (RunHostDiedError, WorkerCrashedError)

Save = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class ComparisonLoop:
    """Continues a record from its last sample, and saves each sample before the next begins."""

    record: ComparisonRecord
    seed: str
    measure: Measure
    save: Save
    clock: Callable[[], float]
    """Clock in seconds. All time from the start of `run` counts against the budget, except set-up,
    which has its own budget."""
    _last: float = 0.0

    async def run(self) -> None:
        """Make the missing measurements. Raises the error that ends the comparison early."""
        self._last = self.clock()
        warm: set[int] = set()
        for round_number in range(self.record.rounds + 1):
            for index in self._order(round_number):
                cell = self.record.cells[index]
                if not cell.is_skipped and not cell.has(round_number):
                    await self._visit(index, round_number, warm)
        for cell in self.record.cells:
            if not cell.is_skipped and not cell.timed:
                cell.reason = NO_TIME
        await self._keep()

    async def _keep(self) -> None:
        self._count_used()
        await self.save()

    def _order(self, round_number: int) -> list[int]:
        """Return the indexes of the cells in the order of a round. The warm-up ends with the cells
        that take longest to set up, so that their pools are still up in the rounds.
        """
        cells = self.record.cells
        if round_number == 0:
            return sorted(range(len(cells)), key=lambda index: cells[index].setup_estimate)
        return shuffled(range(len(cells)), self.seed, round_number)

    async def _visit(self, index: int, round_number: int, warm: set[int]) -> None:
        cell = self.record.cells[index]
        while not cell.is_skipped:
            size = cell.size(round_number)
            must = self.record.exact and not cell.timed
            if not must and self._left() < self._expected(cell, size):
                return
            if not must and not cell.samples and self._setup_left < cell.setup_estimate:
                cell.reason = (
                    f"Set-up takes about {cell.setup_estimate:.1f} s, but only "
                    f"{self._setup_left:.1f} s of setup_budget_seconds = "
                    f"{self.record.setup_budget_seconds:g} are left. Raise setup_budget_seconds."
                )
                await self._keep()
                return
            try:
                if round_number > 0 and index not in warm:
                    # The run host is new to the cell, after a death or a resumption: warm it up.
                    await self._timed(cell, cell.size(0), 0, must)
                    warm.add(index)
                    continue
                sample = await self._timed(cell, size, round_number, must)
            except DEATHS as error:
                warm.clear()
                cell.deaths += 1
                if cell.deaths >= MAX_DEATHS:
                    cell.reason = f"{_plain(error)} ({cell.deaths} times)"
                await self._keep()
                continue
            except _OURS:
                raise
            except ServiceError as error:
                if isinstance(error, RunTimeoutError) and cell.timed:
                    return
                cell.reason = str(error)
                await self._keep()
                return
            warm.add(index)
            cell.samples.append(sample)
            await self._keep()
            return

    async def _timed(self, cell: CellRecord, size: Size, number: int, must: bool) -> Sample:
        cold = number == 0 and cell.warm_up is None
        setup = self._setup_left if cell.setup_estimate else 0.0
        timeout = None if must else max(LEAST_SECONDS, self._left()) + setup
        sample = await self.measure(cell, size, number, cold=cold, timeout_seconds=timeout)
        self._count_used()
        self.record.used_seconds -= sample.setup_seconds
        self.record.setup_seconds += sample.setup_seconds
        return sample

    @property
    def _setup_left(self) -> float:
        return max(0.0, self.record.setup_budget_seconds - self.record.setup_seconds)

    def _left(self) -> float:
        self._count_used()
        return self.record.budget_seconds - self.record.used_seconds

    def _count_used(self) -> None:
        now = self.clock()
        self.record.used_seconds += now - self._last
        self._last = now

    def _expected(self, cell: CellRecord, size: Size) -> float:
        """Return the expected seconds of the next execution without set-up, by the last sample."""
        if not cell.samples:
            return size.estimate + OVERHEAD_SECONDS
        last = cell.samples[-1]
        took = last.wall_seconds - last.setup_seconds
        before = cell.full_estimate / last.scale
        return took * size.estimate / before if before > 0 else took


def _plain(error: ServiceError) -> str:
    if isinstance(error, RunHostDiedError):
        return "the run host died during the measurement"
    return str(error)


def shuffled(cells: Sequence[int], seed: str, round_number: int) -> list[int]:
    """Return the cells shuffled by seed and round, so that neither the preceding cell nor a slow
    drift of the machine favours any of them.
    """
    order = list(cells)
    random.Random(f"{seed}:{round_number}").shuffle(order)
    return order
