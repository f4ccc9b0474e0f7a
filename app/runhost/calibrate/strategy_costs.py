"""Measuring the costs of a strategy beside its kernel: starting, batches, items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.constants import KernelCosts, StrategyCosts
from hotloop.app.runhost.calibrate.kernel_costs import Probe, sized_call
from hotloop.app.runhost.calibrate.timed_runs import Experiment, Medians, probe_plan
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import CAPABILITIES, LOCAL_STRATEGIES, uses_processes

START_RUNS: Final = 2
"""Runs of one item in each round; each takes milliseconds."""

ITEMS: Final = 50_000
"""Items of the run of one batch that measures the cost of an item beside its kernel."""

EMPTY_BATCHES: Final = 128
"""Batches of a run without computing: enough that some results are sent before its end."""

FULL_BATCHES: Final = 64
FULL_SECONDS: Final = 300e-6
"""Seconds that each batch keeps all CPUs busy, in the run of FULL_BATCHES."""

SAME_AS: Final = {StrategyName.HYBRID: StrategyName.THREADING}
"""Strategies that without I/O pass on batches just like another strategy; only their start is
measured."""


@dataclass(frozen=True, slots=True)
class StrategyTimes:
    """The runs that measure all strategies on `cpus` CPUs."""

    full: Probe
    """The call of a batch that keeps each CPU busy for FULL_SECONDS."""
    cpus: int

    @classmethod
    def with_kernel(cls, kernel: KernelCosts, cpus: int) -> StrategyTimes:
        """Size the batches by the measured costs of the kernel."""
        return cls(sized_call(kernel, cpus * FULL_SECONDS), cpus)

    def experiments(self) -> Iterator[Experiment]:
        """Experiments with a worker for each CPU. Empty batches warm up threads for the full ones;
        processes still have to warm up, as they have not computed yet.
        """
        for name in LOCAL_STRATEGIES:
            yield Experiment("start", self._plan(name, 1, 1), START_RUNS)
            if name in SAME_AS:
                continue
            yield Experiment("items", self._plan(name, ITEMS, ITEMS), is_long=True)
            yield Experiment("empty batches", self._plan(name, EMPTY_BATCHES, 1))
            is_warm = not uses_processes(name, releases_gil=True)
            yield Experiment("full batches", self._full_plan(name, self.cpus), is_long=is_warm)

    def single_worker(self) -> Iterator[Experiment]:
        """Experiments with a single worker; its process is new and has to warm up."""
        for name in LOCAL_STRATEGIES:
            if CAPABILITIES[name].parallel and name not in SAME_AS:
                in_processes = uses_processes(name, releases_gil=True)
                yield Experiment("single", self._full_plan(name, 1), is_long=not in_processes)

    def costs(
        self,
        name: StrategyName,
        seconds: Medians,
        kernel: KernelCosts,
        setup_seconds: float,
        worker_bytes: int,
    ) -> StrategyCosts:
        """The costs of a strategy by the `seconds` of both sorts of experiments; `kernel` is the
        kernel of their calls.
        """
        start, measured = seconds[name, "start"], SAME_AS.get(name, name)
        in_processes = uses_processes(name, releases_gil=True)

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
        # More computing in a batch never makes it shorter.
        full = max(each("full batches", FULL_BATCHES, busy), empty - busy)
        return StrategyCosts(
            start_seconds=start,
            empty_batch_seconds=empty,
            full_batch_seconds=full,
            full_seconds=busy,
            worker_seconds=each("single", FULL_BATCHES, call) if parallel else full,
            item_seconds=item,
            setup_seconds=setup_seconds,
            worker_bytes=worker_bytes if in_processes else 0,
        )

    def _full_plan(self, name: StrategyName, workers: int) -> Plan:
        size, parameters = self.full.items, self.full.parameters
        return self._plan(name, FULL_BATCHES * size, size, workers=workers, parameters=parameters)

    def _plan(self, name: StrategyName, count: int, batch_size: int, **fields: object) -> Plan:
        return probe_plan(
            self.full.workload,
            self.full.kernel,
            name,
            items=GeneratedItems(count),
            batch_size=batch_size,
            **{"workers": self.cpus, **fields},
        )
