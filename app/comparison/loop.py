"""The way through a comparison: which cell is measured next, until the budget is used up.

All I/O is behind `Measure`, `Save` and the clock, so that it can be tried on a machine that is
made up.
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
"""Executions of a cell that a process may not survive; after that many, the cell is skipped."""

OVERHEAD_SECONDS: Final = 0.05
"""That an execution takes beside what is estimated, before the first one tells."""

LEAST_SECONDS: Final = 1.0
"""That an execution which has begun gets, even when less is left of the budget."""

NO_TIME: Final = "the budget was used up before it could be measured; raise budget_seconds"

_OURS: Final = (RunCancelledError, StoreError, TaskConflictError, TaskNotFoundError, NotReadyError)
"""What ends the comparison, and says nothing about a cell."""


class Measure(Protocol):
    """Executes a cell once."""

    async def __call__(
        self,
        cell: CellRecord,
        size: Size,
        round_number: int,
        *,
        cold: bool,
        timeout_seconds: float | None,
    ) -> Sample:
        """`cold`: with pools that are not up yet. Raises a ServiceError; after one of DEATHS what
        was warm is cold again.
        """
        ...


DEATHS: Final = (RunHostDiedError, WorkerCrashedError)

Save = Callable[[], Awaitable[None]]


@dataclass(slots=True)
class ComparisonLoop:
    """Goes on with a record where it stands; every sample is saved before the next begins."""

    record: ComparisonRecord
    seed: str
    measure: Measure
    save: Save
    clock: Callable[[], float]
    """Seconds; all that pass from the begin of `run` on are taken from the budget, but for set-up,
    which has a budget of its own."""
    _last: float = 0.0

    async def run(self) -> None:
        """Raises what ends the comparison before its time."""
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
        """Of the cells, by their index. The warm-up has those last that take longest to set up:
        what they have set up is still there in the rounds.
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
                    # On a run host that is new to it: after a death, or when a task goes on.
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
        """Seconds of the next execution beside its set-up, by those that there were."""
        if not cell.samples:
            return size.estimate + OVERHEAD_SECONDS
        last = cell.samples[-1]
        took = last.wall_seconds - last.setup_seconds
        before = cell.full_estimate / last.scale
        return took * size.estimate / before if before > 0 else took


def _plain(error: ServiceError) -> str:
    if isinstance(error, RunHostDiedError):
        return "the run host died in the middle of it"
    return str(error)


def shuffled(cells: Sequence[int], seed: str, round_number: int) -> list[int]:
    """The cells in the order of a round: the same for the same seed and another one in each round,
    so that neither the cell before nor a slow drift of the machine favours any of them.
    """
    order = list(cells)
    random.Random(f"{seed}:{round_number}").shuffle(order)
    return order
