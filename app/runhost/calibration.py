"""What calibrating measures, as plain data: the constants of the cost model.

Seconds, bytes. docs/model.md says what each constant stands for and how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hotloop.app.strategies.pools import PoolLimits

IN_FLIGHT: Final = (500, 4_000, 10_000)
"""Items on the event loop at once for which its seconds are measured."""


@dataclass(frozen=True, slots=True)
class KernelCosts:
    """One kernel. A call with b items takes `call_seconds` + b × `item_seconds` + the terms."""

    workload: str
    kernel: str
    releases_gil: bool
    call_seconds: float
    item_seconds: float
    """Without any operations."""
    sizes: tuple[int, ...]
    """Numbers of items in a call, ascending from 1, for which terms were measured."""
    operation_seconds: Mapping[str, tuple[float, ...]]
    """By cost term: for each of `sizes`, seconds of one operation of one item."""
    thread_slowdown: float
    """How many times as long a call takes while each usable CPU has a thread that does the same:
    1 is a perfect machine; as many as there are CPUs, a kernel that holds the GIL."""
    process_slowdown: float
    """The same with a process for each usable CPU."""

    def seconds_of_call(self, operations: Mapping[str, int], count: float) -> float:
        """With `count` items of so many `operations` by term.

        Between measured sizes linear in the items; above the largest, as much an item as there. A
        call that fills the lanes may take less than one with an item fewer.
        """
        seconds = self.call_seconds + count * self.item_seconds
        for term, each in operations.items():
            if each:
                seconds += each * self._operation_seconds(term, count)
        return seconds

    def _operation_seconds(self, term: str, count: float) -> float:
        """Of one operation of each of `count` items."""
        last_size, last = 0.0, 0.0
        for size, cost in zip(self.sizes, self.operation_seconds[term], strict=True):
            here = size * cost
            if count <= size:
                return last + (here - last) * (count - last_size) / (size - last_size)
            last_size, last = size, here
        return last + (count - last_size) * last / last_size


@dataclass(frozen=True, slots=True)
class StrategyCosts:
    """One strategy beside its kernel, with pools that are warm."""

    start_seconds: float
    """A run of one item without work."""
    empty_batch_seconds: float
    """Each further batch, when there is nothing to do in it: as fast as they can be passed on."""
    full_batch_seconds: float
    """Each further batch beside its computing, when that keeps all CPUs busy for `full_seconds`."""
    full_seconds: float
    worker_seconds: float
    """Each further batch beside its computing, in a worker that has CPUs to spare around it."""
    item_seconds: float
    """Each further item of a batch, without work: its columns, checksum, way to the API."""
    setup_seconds: float
    """Bringing up a pool with a worker for each usable CPU."""
    worker_bytes: int
    """Each worker."""

    def batch_seconds(self, computing: float) -> float:
        """Each further batch beside its computing, for which all CPUs are busy so long."""
        more = self.full_batch_seconds - self.empty_batch_seconds
        if computing >= self.full_seconds:
            return self.full_batch_seconds
        return self.empty_batch_seconds + more * computing / self.full_seconds


@dataclass(frozen=True, slots=True)
class WaitCosts:
    """What waiting costs beside the wait."""

    overshoot_seconds: float
    """How much later than asked a worker goes on, for each item and stage."""
    async_overshoot_seconds: float
    """The same on the event loop, whose clock has coarse ticks."""
    in_flight_bytes: int
    """For each item in flight on the event loop."""


@dataclass(frozen=True, slots=True)
class LoopCosts:
    """Event loop seconds of a strategy that has items wait side by side."""

    item_seconds: tuple[float, ...]
    """Each item with its first stage, for each of IN_FLIGHT; ascending."""
    stage_seconds: tuple[float, ...]
    """Each item and further stage, for each of IN_FLIGHT; ascending."""
    task_seconds: float
    """Each task that is begun, to wait for one item after another: as many as are in flight, or, in
    `hybrid` with batches so small that a task finds no next item, for each item one."""
    batch_seconds: float
    """Each batch of `hybrid`; 0 for `async-batch`, of which it costs the same without I/O."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything the cost model knows about a machine."""

    usable_cpus: int
    max_threads: int
    max_processes: int
    """The most workers of a run, whatever it asks for."""
    kernels: tuple[KernelCosts, ...]
    strategies: Mapping[str, StrategyCosts]
    waits: WaitCosts
    loops: Mapping[str, LoopCosts]
    """By strategy."""
    base_bytes: int
    """A run host without worker processes."""
    seconds: float = 0.0
    """How long calibrating took; 0 for constants that were not measured here."""

    @property
    def limits(self) -> PoolLimits:
        """The most workers of a run."""
        return PoolLimits(self.max_threads, self.max_processes, self.usable_cpus)

    def kernel(self, workload: str, name: str) -> KernelCosts:
        """Raises LookupError."""
        for costs in self.kernels:
            if (costs.workload, costs.kernel) == (workload, name):
                return costs
        raise LookupError(f"no costs of {workload} × {name}")
