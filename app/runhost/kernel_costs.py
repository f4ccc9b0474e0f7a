"""Measuring kernels: seconds by the size of a call, and what company on the other CPUs costs."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

import numpy as np

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibration import KernelCosts
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.process_pool import ProcessPool
from hotloop.app.strategies.worker_process import idle_parameters
from hotloop.app.system import has_gil

SIZES: Final = (1, 2, 4, 8, 16, 32, 63, 64, 127, 128, 512)
"""Items of the calls that are timed: small ones leave vector lanes empty, and a kernel whose lanes
are many has a step where they are full."""

WHOLE_PROBE_ITEMS: Final = 64
"""Calls with more items get fewer operations each: a call should be over before the system gives
the CPU to somebody else."""

LONGEST_CALL_SECONDS: Final = 0.012
"""A kernel that is slower is not asked for more items: it does not use lanes."""

SHORTEST_SECONDS: Final = 0.001
"""Calls that take less are repeated until this long."""

ROUNDS: Final = 2
"""Of each the fastest call counts, as what disturbs a call only makes it slower; of all, which are
made at different times, the median, as the pace of a machine that others share may change for
seconds.
"""

FINDING_CALLS: Final = 3
"""Of each size while it is found out which are affordable, or a disturbance would decide."""

SLOWDOWN_SECONDS: Final = 0.01
"""A probe of the slowdown takes about this long on one CPU."""

COMPANY_ROUNDS: Final = 3
COMPANY_WARM_UP: Final = 3
"""Rounds that do not count: a fresh worker is slower than one that has computed for a while."""

SIZING_ITEMS: Final = 16
"""Items of a first call, by whose seconds the other calls are sized."""

IDLE_ITEMS: Final = 4_096
"""In a call that measures what an item costs without operations."""


class Probe(NamedTuple):
    """What `time_call` takes."""

    workload: str
    kernel: str
    items: int
    parameters: Mapping[str, int]


@dataclass(slots=True)
class KernelTimes:
    """One kernel, on calls of ever more items; the seconds of each round so far."""

    workload: str
    kernel: str
    slowdowns: tuple[float, float] = (inf, inf)
    """What company costs, in threads and in processes; the least of all times so far."""
    sizes: list[int] = field(default_factory=lambda: [SIZES[0]])
    rounds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """By term and size; the term "" is a call without operations."""

    def measure(self) -> None:
        """One more round, the first of which finds out which sizes are affordable."""
        terms = [term.name for term in kernels.get_workload(self.workload).terms]
        if not self.rounds:
            for size in SIZES[1:]:
                for _ in range(FINDING_CALLS):
                    self._time_terms(terms, self.sizes[-1])
                slowest = max(min(self.rounds[term, self.sizes[-1]]) for term in terms)
                if slowest * size / self.sizes[-1] > LONGEST_CALL_SECONDS:
                    break
                self.sizes.append(size)
            self.rounds.clear()
        for size in self.sizes:
            self._time_terms(terms, size)
        for size in (1, IDLE_ITEMS):
            self._time("", size, idle_parameters(self.workload))

    def _time_terms(self, terms: Sequence[str], size: int) -> None:
        for term in terms:
            self._time(term, size, probe(self.workload, term, size))

    def _time(self, term: str, size: int, parameters: Mapping[str, int]) -> None:
        seconds: list[float] = []
        while sum(seconds) < SHORTEST_SECONDS:
            seconds.append(time_call(self.workload, self.kernel, size, parameters))
        self.rounds.setdefault((term, size), []).append(min(seconds))

    def note_slowdowns(self, in_threads: float, in_processes: float) -> None:
        threads, processes = self.slowdowns
        self.slowdowns = min(threads, in_threads), min(processes, in_processes)

    def costs(self) -> KernelCosts:
        workload = kernels.get_workload(self.workload)
        calls = {key: statistics.median(seconds) for key, seconds in self.rounds.items()}
        call, idle = calls["", 1], calls["", IDLE_ITEMS]
        item = max(0.0, idle - call) / (IDLE_ITEMS - 1)

        def operation_seconds(term: str, size: int) -> float:
            operations = workload.operations(probe(self.workload, term, size))[term]
            beside = call - item + size * item
            return (calls[term, size] - beside) / (size * operations)

        def by_size(term: str) -> tuple[float, ...]:
            """No item is cheaper than in the largest call, where nearly all is operations: in a
            small one a disturbance could leave nothing of them, or less.
            """
            least = max(0.0, operation_seconds(term, self.sizes[-1]))
            return tuple(max(least, operation_seconds(term, size)) for size in self.sizes)

        return KernelCosts(
            workload=self.workload,
            kernel=self.kernel,
            releases_gil=kernels.get_kernel(self.workload, self.kernel).releases_gil,
            call_seconds=max(0.0, call - item),
            item_seconds=item,
            sizes=tuple(self.sizes),
            operation_seconds={term.name: by_size(term.name) for term in workload.terms},
            thread_slowdown=self.slowdowns[0],
            process_slowdown=self.slowdowns[1],
        )


def probe(workload: str, term: str, size: int) -> Mapping[str, int]:
    """Parameters under which only this term does any work, for a call with so many items."""
    found = kernels.get_workload(workload)
    first = next(each.parameters[0] for each in found.terms if each.name == term)
    whole = found.probes[term]
    fewer = max(1, size // WHOLE_PROBE_ITEMS)
    return {**whole, first: max(1, whole[first] // fewer)}


def time_call(workload: str, kernel: str, count: int, parameters: Mapping[str, int]) -> float:
    """Seconds of one call with `count` simulated items; also for worker processes."""
    columns = kernels.get_workload(workload).simulated_columns(np.arange(count, dtype=np.int64))
    run = kernels.get_kernel(workload, kernel).run
    started = time.perf_counter()
    run(columns, parameters)
    return time.perf_counter() - started


def thread_slowdown(call: Probe, cpus: int) -> float:
    """Seconds of a call in each of `cpus` threads at once ÷ seconds of the call alone. Those of a
    kernel that holds the GIL take turns: nothing to measure, and what a thread waits for it before
    its call begins would be missed.
    """
    if cpus == 1:
        return 1.0
    if has_gil() and not kernels.get_kernel(call.workload, call.kernel).releases_gil:
        return float(cpus)
    start = threading.Barrier(cpus)

    def together() -> float:
        start.wait()
        return time_call(*call)

    alone, company = [], []
    with ThreadPoolExecutor(cpus) as threads:
        for _ in range(COMPANY_WARM_UP + COMPANY_ROUNDS):
            alone.append(time_call(*call))
            calls = [threads.submit(together) for _ in range(cpus)]
            company.append(_mean([each.result() for each in calls]))
    return _slowdown(alone, company, cpus)


async def process_slowdown(pool: ProcessPool, call: Probe, cpus: int) -> float:
    """The same with worker processes; `pool` is warm and has one for each CPU."""
    if cpus == 1:
        return 1.0
    alone, company = [], []
    for _ in range(COMPANY_WARM_UP + COMPANY_ROUNDS):
        alone.append(await pool.submit(time_call, *call))
        calls = (pool.submit(time_call, *call) for _ in range(cpus))
        company.append(_mean(await asyncio.gather(*calls)))
    return _slowdown(alone, company, cpus)


def _slowdown(alone: Sequence[float], company: Sequence[float], cpus: int) -> float:
    """Of the least disturbed rounds; no company of so many can take more than its share."""
    fastest = min(company[COMPANY_WARM_UP:]) / min(alone[COMPANY_WARM_UP:])
    return min(float(cpus), max(1.0, fastest))


def sized_call(kernel: KernelCosts, seconds: float) -> Probe:
    """A call with default parameters that takes about so long."""
    workload = kernels.get_workload(kernel.workload)
    parameters = workload.resolve_parameters()
    item = kernel.seconds_of_call(workload.operations(parameters), SIZING_ITEMS) / SIZING_ITEMS
    return Probe(kernel.workload, kernel.kernel, max(1, round(seconds / item)), parameters)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def probe_plan(workload: str, kernel: str, strategy: StrategyName, **fields: object) -> Plan:
    """A plan without work, for measuring what a strategy costs by itself."""
    values: dict[str, object] = {
        "workload": workload,
        "kernel": kernel,
        "strategy": strategy,
        "items": GeneratedItems(1),
        "stages": (),
        "parameters": idle_parameters(workload),
        "batch_size": 1,
        "workers": 1,
        "io_concurrency": 1,
    }
    return Plan(**(values | fields))  # type: ignore[arg-type]
