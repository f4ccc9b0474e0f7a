"""The constants of the cost model, which calibrating measures, as plain data.

Seconds and bytes. docs/model.md says what each constant stands for and how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from hotloop.app.strategies.pools import PoolLimits

IN_FLIGHT: Final = (500, 4_000, 10_000)
"""The numbers of items in flight for which the event loop is measured."""


_NAMES: Final = ("workload", "kernel")
"""Fields that are not numbers."""


def check_measured(value: Any) -> None:
    """Raise ValueError for a number, however deep in JSON, that cannot be a measurement."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name not in _NAMES:
                check_measured(each)
    elif isinstance(value, list | tuple):
        for each in value:
            check_measured(each)
    elif not (isinstance(value, int | float) and 0 <= value < float("inf")):
        raise ValueError(f"{value!r} among the constants")


@dataclass(frozen=True, slots=True)
class KernelCosts:
    """The costs of a kernel: a call with b items takes `call_seconds` + b × `item_seconds` + the
    cost terms.
    """

    workload: str
    kernel: str
    releases_gil: bool
    call_seconds: float
    item_seconds: float
    """Seconds of an item without any operations."""
    sizes: tuple[int, ...]
    """Numbers of items in a call, ascending from 1, for which terms were measured."""
    operation_seconds: Mapping[str, tuple[float, ...]]
    """Seconds of an operation of an item for each of `sizes`, by cost term."""
    thread_slowdown: float
    """Factor by which a call is slower while a thread on each usable CPU does the same: 1 on a
    perfect machine, the number of CPUs for a kernel that holds the GIL."""
    process_slowdown: float
    """Factor by which a call is slower while a process on each usable CPU does the same."""
    making_call_seconds: float = 0.0
    """Seconds to make up the items of a batch, beside those of each item."""
    making_item_seconds: float = 0.0
    """Seconds to make up an item. Both are what it takes more than for the default workload, whose
    items are a part of what strategies cost."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> KernelCosts:
        """Read what `asdict` has made. Raises TypeError, KeyError or ValueError for other JSON."""
        sizes = tuple(int(size) for size in stored["sizes"])
        operations = {
            term: tuple(float(cost) for cost in costs)
            for term, costs in stored["operation_seconds"].items()
        }
        if not sizes or any(len(costs) != len(sizes) for costs in operations.values()):
            raise ValueError("costs for other sizes than those named")
        found = cls(**{**stored, "sizes": sizes, "operation_seconds": operations})
        check_measured(asdict(found))
        return found

    def seconds_of_call(self, operations: Mapping[str, float], count: float) -> float:
        """Return the seconds of a call with `count` items of `operations` each, by cost term.

        They are linear between the measured sizes; above the largest, the cost of an item is
        constant. A call that fills the lanes may take less than a call with one item fewer.
        """
        seconds = self.call_seconds + count * self.item_seconds
        for term, each in operations.items():
            if each:
                seconds += each * self._operation_seconds(term, count)
        return seconds

    def making_seconds(self, count: float) -> float:
        """Return the seconds to make up `count` items of a batch."""
        return self.making_call_seconds + count * self.making_item_seconds

    def _operation_seconds(self, term: str, count: float) -> float:
        """Return the seconds of one operation of each of `count` items."""
        last_size, last = 0.0, 0.0
        for size, cost in zip(self.sizes, self.operation_seconds[term], strict=True):
            here = size * cost
            if count <= size:
                return last + (here - last) * (count - last_size) / (size - last_size)
            last_size, last = size, here
        return last + (count - last_size) * last / last_size


@dataclass(frozen=True, slots=True)
class StrategyCosts:
    """The costs of a strategy beside its kernel, with warm pools."""

    start_seconds: float
    """Seconds of a run of one item without work."""
    empty_batch_seconds: float
    """Seconds of each further batch without computing, when batches are passed on fastest."""
    full_batch_seconds: float
    """Seconds of a further batch beside its computing of `full_seconds` on all CPUs."""
    full_seconds: float
    worker_seconds: float
    """Seconds of a further batch beside its computing, in a worker while other CPUs are idle."""
    item_seconds: float
    """Seconds of a further item without operations: columns, checksum, messages to the API."""
    setup_seconds: float
    """Seconds to start a pool with a worker for each usable CPU."""
    worker_bytes: int
    """Memory of each worker process."""

    def batch_seconds(self, computing: float) -> float:
        """Return the seconds of each further batch beside its computing, which keeps all CPUs busy
        for `computing` seconds.
        """
        more = self.full_batch_seconds - self.empty_batch_seconds
        if computing >= self.full_seconds:
            return self.full_batch_seconds
        return self.empty_batch_seconds + more * computing / self.full_seconds


@dataclass(frozen=True, slots=True)
class ClusterCosts:
    """The costs of a strategy on a cluster beside its kernel, with a connected driver."""

    workers: int
    """Workers of the cluster when it was calibrated."""
    setup_seconds: float
    """Seconds to start a driver, connect, and prepare all workers."""
    start_seconds: float
    """Seconds of a run of one item without work."""
    parcel_seconds: float
    """Seconds of each further parcel when parcels are passed on fastest, by all workers together.
    """
    round_trip_seconds: float
    """Seconds of each further parcel with a single parcel in flight."""
    batch_seconds: float
    """Seconds of each further batch of a parcel, in its worker."""
    item_seconds: float
    """Seconds of a further item without operations: columns, checksum, messages."""
    byte_seconds: float
    """Seconds to send a byte of an item that is not made up by the worker."""
    slowdown: float
    """Seconds of a kernel call on a busy worker ÷ its seconds alone on this machine."""


TYPICAL_CLUSTER: Final = ClusterCosts(
    workers=2,
    setup_seconds=6.0,
    start_seconds=10e-3,
    parcel_seconds=3e-3,
    round_trip_seconds=8e-3,
    batch_seconds=0.15e-3,
    item_seconds=80e-9,
    byte_seconds=5e-9,
    slowdown=1.1,
)
"""Costs of a cluster that was not calibrated: rounded figures of local clusters with two workers
(docs/performance.md)."""


@dataclass(frozen=True, slots=True)
class WaitCosts:
    """The costs of a wait beside the wait itself."""

    overshoot_seconds: float
    """Seconds by which a worker wakes up late, for each item and stage."""
    async_overshoot_seconds: float
    """Seconds by which the event loop, whose clock has coarse ticks, wakes up late."""
    in_flight_bytes: int
    """Memory of each item in flight on the event loop."""


@dataclass(frozen=True, slots=True)
class LoopCosts:
    """Seconds of the event loop, for a strategy whose items wait side by side."""

    item_seconds: tuple[float, ...]
    """Seconds of an item with its first stage, for each of IN_FLIGHT; ascending."""
    stage_seconds: tuple[float, ...]
    """Seconds of an item and further stage, for each of IN_FLIGHT; ascending."""
    task_seconds: float
    """Seconds of an asyncio task that waits for items one by one: one task for each item in flight,
    or for each item in `hybrid` with batches so small that a task finds no next item."""
    batch_seconds: float
    """Seconds of a batch of `hybrid`; 0 for `async-batch`, whose I/O adds nothing to a batch."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """All constants of the cost model for a machine."""

    usable_cpus: int
    max_threads: int
    max_processes: int
    """The largest number of worker processes of a run."""
    kernels: tuple[KernelCosts, ...]
    strategies: Mapping[str, StrategyCosts]
    waits: WaitCosts
    loops: Mapping[str, LoopCosts]
    """The event loop of each strategy that has one, by its name."""
    base_bytes: int
    """Memory of a run host without worker processes."""
    clusters: Mapping[str, ClusterCosts] = field(default_factory=dict)
    """The clusters that were measured, by strategy."""
    seconds: float = 0.0
    """Duration of the calibration; 0 for constants that were not measured here."""

    @property
    def limits(self) -> PoolLimits:
        """The largest numbers of workers of a run."""
        return PoolLimits(
            self.max_threads,
            self.max_processes,
            self.usable_cpus,
            {name: costs.workers for name, costs in self.clusters.items()},
        )

    def cluster(self, strategy: str) -> ClusterCosts:
        """Return the costs of a cluster; typical ones if it was not measured."""
        return self.clusters.get(strategy, TYPICAL_CLUSTER)

    def kernel(self, workload: str, name: str) -> KernelCosts:
        """Return the costs of a kernel. Raises LookupError."""
        for costs in self.kernels:
            if (costs.workload, costs.kernel) == (workload, name):
                return costs
        raise LookupError(f"no costs of {workload} × {name}")
