"""What calibrating measures, as plain data: the constants of the cost model.

Seconds, bytes. docs/model.md says what each constant stands for and how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

FEW_IN_FLIGHT: Final = 500
MANY_IN_FLIGHT: Final = 20_000
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


@dataclass(frozen=True, slots=True)
class StrategyCosts:
    """One strategy beside its kernel, with pools that are warm."""

    start_seconds: float
    """A run of one item without work."""
    batch_seconds: float
    """Each further batch."""
    item_seconds: float
    """Each further item of a batch, without work: its columns, checksum, way to the API."""
    setup_seconds: float
    """Bringing up a pool with a worker for each usable CPU."""
    worker_bytes: int
    """Each worker."""


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

    item_seconds: float
    """Each item, however many stages, with FEW_IN_FLIGHT at once."""
    stage_seconds: float
    """Each item and stage."""
    crowding: float
    """How many times as long both take with MANY_IN_FLIGHT at once, at least 1."""
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

    def kernel(self, workload: str, name: str) -> KernelCosts:
        """Raises LookupError."""
        for costs in self.kernels:
            if (costs.workload, costs.kernel) == (workload, name):
                return costs
        raise LookupError(f"no costs of {workload} × {name}")
