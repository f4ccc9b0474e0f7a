"""Measuring what a strategy costs beside its kernel: starting, batches, items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibration import KernelCosts, StrategyCosts
from hotloop.app.runhost.kernel_costs import Probe, probe_plan, sized_call
from hotloop.app.runhost.timed_runs import Experiment, Medians
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import CAPABILITIES, STRATEGIES, uses_processes

START_RUNS: Final = 2
"""Of milliseconds, in each round."""

ITEMS: Final = 50_000
"""Of a run of one batch that measures what an item costs beside its kernel."""

EMPTY_BATCHES: Final = 128
"""As long as some of its results have to be sent before its end."""

FULL_BATCHES: Final = 64
FULL_SECONDS: Final = 300e-6
"""Of all CPUs for each batch of a run that keeps them busy."""


SAME_AS: Final = {StrategyName.HYBRID: StrategyName.THREADING}
"""Strategies that pass batches without I/O on just as another one does: only their start is
measured beside it."""


@dataclass(frozen=True, slots=True)
class StrategyTimes:
    """Runs of all strategies that do nothing or compute, on so many CPUs."""

    full: Probe
    """The call of a batch that keeps each CPU busy for FULL_SECONDS."""
    cpus: int

    @classmethod
    def with_kernel(cls, kernel: KernelCosts, cpus: int) -> StrategyTimes:
        """Batches are sized by what was measured of the kernel so far."""
        return cls(sized_call(kernel, cpus * FULL_SECONDS), cpus)

    def experiments(self) -> Iterator[Experiment]:
        """Experiments with a worker for each CPU. Empty batches warm threads up for the full ones;
        processes have not computed yet.
        """
        for name in STRATEGIES:
            yield Experiment("start", self._plan(name, 1, 1), START_RUNS)
            if name in SAME_AS:
                continue
            yield Experiment("items", self._plan(name, ITEMS, ITEMS), is_long=True)
            yield Experiment("empty batches", self._plan(name, EMPTY_BATCHES, 1))
            is_warm = not uses_processes(name, releases_gil=True)
            yield Experiment("full batches", self._full_plan(name, self.cpus), is_long=is_warm)

    def alone(self) -> Iterator[Experiment]:
        """Experiments with a single worker; processes are new, and have to warm up."""
        for name in STRATEGIES:
            if CAPABILITIES[name].parallel and name not in SAME_AS:
                in_processes = uses_processes(name, releases_gil=True)
                yield Experiment("alone", self._full_plan(name, 1), is_long=not in_processes)

    def costs(
        self,
        name: StrategyName,
        seconds: Medians,
        kernel: KernelCosts,
        setup_seconds: float,
        worker_bytes: int,
    ) -> StrategyCosts:
        """Of what both sorts of experiments measured; `kernel` is that of the calls."""
        start = seconds[name, "start"]
        in_processes = uses_processes(name, releases_gil=True)

        measured = SAME_AS.get(name, name)

        def each(what: str, count: int, computing: float = 0.0) -> float:
            taken = seconds[measured, what] - seconds[measured, "start"] - count * computing
            return max(0.0, taken) / (count - 1)

        item = each("items", ITEMS)
        operations = kernels.get_workload(kernel.workload).operations(self.full.parameters)
        call = kernel.seconds_of_call(operations, self.full.items) + self.full.items * item
        slowdown = kernel.process_slowdown if in_processes else kernel.thread_slowdown
        parallel = CAPABILITIES[name].parallel
        busy = call * slowdown / self.cpus if parallel else call
        empty = each("empty batches", EMPTY_BATCHES)
        # More to do in a batch never makes it shorter.
        full = max(each("full batches", FULL_BATCHES, busy), empty - busy)
        alone = each("alone", FULL_BATCHES, call) if parallel else full
        return StrategyCosts(
            start_seconds=start,
            empty_batch_seconds=empty,
            full_batch_seconds=full,
            full_seconds=busy,
            worker_seconds=alone,
            item_seconds=item,
            setup_seconds=setup_seconds,
            worker_bytes=worker_bytes if in_processes else 0,
        )

    def _full_plan(self, name: StrategyName, workers: int) -> Plan:
        size = self.full.items
        return self._plan(
            name, FULL_BATCHES * size, size, workers=workers, parameters=self.full.parameters
        )

    def _plan(self, name: StrategyName, count: int, batch_size: int, **fields: object) -> Plan:
        return probe_plan(
            self.full.workload,
            self.full.kernel,
            name,
            items=GeneratedItems(count),
            batch_size=batch_size,
            **{"workers": self.cpus, **fields},
        )
