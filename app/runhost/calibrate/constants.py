"""The constants of the cost model, which calibrating measures, as plain data.

Seconds and bytes. docs/model.md says what each constant stands for and how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from hotloop.app.strategies.pools import PoolLimits

IN_FLIGHT: Final = (500, 4_000, 10_000)
"""The numbers of items in flight for which the event loop is measured."""


@dataclass(frozen=True, slots=True)
class KernelCosts:
    """The costs of one kernel: a call with b items takes `call_seconds` + b × `item_seconds` + the
    cost terms.
    """

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
    """A call takes this many times as long while a thread on each usable CPU does the same: 1 on a
    perfect machine, the number of CPUs for a kernel that holds the GIL."""
    process_slowdown: float
    """The same with a process for each usable CPU."""

    def seconds_of_call(self, operations: Mapping[str, int], count: float) -> float:
        """Seconds of a call with `count` items, each of which takes `operations`, by cost term.

        Linear between the measured sizes; above the largest, an item costs what it costs there. A
        call that fills the lanes may take less than a call with one item fewer.
        """
        seconds = self.call_seconds + count * self.item_seconds
        for term, each in operations.items():
            if each:
                seconds += each * self._operation_seconds(term, count)
        return seconds

    def _operation_seconds(self, term: str, count: float) -> float:
        """Seconds of one operation of each of `count` items."""
        last_size, last = 0.0, 0.0
        for size, cost in zip(self.sizes, self.operation_seconds[term], strict=True):
            here = size * cost
            if count <= size:
                return last + (here - last) * (count - last_size) / (size - last_size)
            last_size, last = size, here
        return last + (count - last_size) * last / last_size


@dataclass(frozen=True, slots=True)
class StrategyCosts:
    """The costs of one strategy beside its kernel, with warm pools."""

    start_seconds: float
    """A run of one item without work."""
    empty_batch_seconds: float
    """Each further batch without any computing: the fastest that batches can be passed on."""
    full_batch_seconds: float
    """Each further batch beside its computing, when that keeps all CPUs busy for `full_seconds`."""
    full_seconds: float
    worker_seconds: float
    """Each further batch beside its computing, in a worker while other CPUs are idle."""
    item_seconds: float
    """Each further item of a batch without operations: columns, checksum, messages to the API."""
    setup_seconds: float
    """Bringing up a pool with a worker for each usable CPU."""
    worker_bytes: int
    """Memory of each worker process."""

    def batch_seconds(self, computing: float) -> float:
        """Seconds of each further batch beside its computing, which keeps all CPUs busy for
        `computing` seconds.
        """
        more = self.full_batch_seconds - self.empty_batch_seconds
        if computing >= self.full_seconds:
            return self.full_batch_seconds
        return self.empty_batch_seconds + more * computing / self.full_seconds


@dataclass(frozen=True, slots=True)
class WaitCosts:
    """The costs of a wait beside the wait itself."""

    overshoot_seconds: float
    """A worker goes on this much later than asked, for each item and stage."""
    async_overshoot_seconds: float
    """The same on the event loop, whose clock has coarse ticks."""
    in_flight_bytes: int
    """Memory of each item in flight on the event loop."""


@dataclass(frozen=True, slots=True)
class LoopCosts:
    """Seconds of the event loop, for a strategy whose items wait side by side."""

    item_seconds: tuple[float, ...]
    """Each item with its first stage, for each of IN_FLIGHT; ascending."""
    stage_seconds: tuple[float, ...]
    """Each item and further stage, for each of IN_FLIGHT; ascending."""
    task_seconds: float
    """Each asyncio task that waits for one item after another: one for each item in flight, or one
    for each item in `hybrid` with batches so small that a task finds no next item."""
    batch_seconds: float
    """Each batch of `hybrid`; 0 for `async-batch`, whose batches cost the same without I/O."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Everything the cost model knows about a machine."""

    usable_cpus: int
    max_threads: int
    max_processes: int
    """The largest number of workers of a run, whatever it asks for."""
    kernels: tuple[KernelCosts, ...]
    strategies: Mapping[str, StrategyCosts]
    waits: WaitCosts
    loops: Mapping[str, LoopCosts]
    """The event loop of each strategy that has one, by its name."""
    base_bytes: int
    """Memory of a run host without worker processes."""
    seconds: float = 0.0
    """How long calibrating took; 0 for constants that were not measured here."""

    @property
    def limits(self) -> PoolLimits:
        """The largest numbers of workers of a run."""
        return PoolLimits(self.max_threads, self.max_processes, self.usable_cpus)

    def kernel(self, workload: str, name: str) -> KernelCosts:
        """The costs of a kernel. Raises LookupError."""
        for costs in self.kernels:
            if (costs.workload, costs.kernel) == (workload, name):
                return costs
        raise LookupError(f"no costs of {workload} × {name}")
