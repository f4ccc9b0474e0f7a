"""Measuring kernels: seconds by the size of a call, and contention while all CPUs compute."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple

import numpy as np

from hotloop import kernels
from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.sources.base import Parameters
from hotloop.app.strategies.process_pool import ProcessPool
from hotloop.app.system import has_gil

SIZES: Final = (1, 2, 4, 8, 16, 32, 63, 64, 127, 128, 512)
"""Items of the calls that are timed. Small calls leave vector lanes empty, and a kernel with many
lanes has a step where they are full."""

WHOLE_PROBE_ITEMS: Final = 64
"""Calls with more items have fewer operations for each, so that a call ends before the system gives
the CPU to another process."""

LONGEST_CALL_SECONDS: Final = 0.012
"""Longest call that is timed: a slower kernel does not use lanes."""

SHORTEST_SECONDS: Final = 0.001
"""Least time of a measurement; shorter calls are repeated until they take it together."""

ROUNDS: Final = 2
"""Rounds of timing. The fastest call of a round counts, because disturbances only make a call
slower; of all rounds, which are made at different times, the median counts, because the pace of a
shared machine may change for seconds."""

FINDING_CALLS: Final = 3
"""Calls of each size while finding the affordable sizes, so that one disturbed call does not
decide."""

SLOWDOWN_SECONDS: Final = 0.01
"""Seconds of a call that measures contention, on one CPU."""

CONTENTION_ROUNDS: Final = 3
CONTENTION_WARM_UP: Final = 3
"""Number of first rounds that do not count, because a new worker is slow."""

SIZING_ITEMS: Final = 16
"""Items of the call whose seconds determine the size of other calls."""

IDLE_ITEMS: Final = 4_096
"""Items of the call that measures the cost of an item without operations."""


class Probe(NamedTuple):
    """The arguments of `time_call`."""

    workload: str
    kernel: str
    items: int
    parameters: Parameters


@dataclass(slots=True)
class KernelTimes:
    """The seconds that calls of one kernel took so far."""

    workload: str
    kernel: str
    slowdowns: tuple[float, float] = (inf, inf)
    """The least slowdown by contention that was measured so far, in threads and in processes."""
    sizes: list[int] = field(default_factory=lambda: [SIZES[0]])
    rounds: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    """Seconds of each round, by term and size; the term "" is a call without operations."""

    def measure(self) -> None:
        """Time one more round; the first one also finds out which sizes are affordable."""
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
            self._time("", size, kernels.get_workload(self.workload).idle_parameters)

    def _time_terms(self, terms: Sequence[str], size: int) -> None:
        for term in terms:
            self._time(term, size, probe(self.workload, term, size))

    def _time(self, term: str, size: int, parameters: Parameters) -> None:
        seconds: list[float] = []
        while sum(seconds) < SHORTEST_SECONDS:
            seconds.append(time_call(self.workload, self.kernel, size, parameters))
        self.rounds.setdefault((term, size), []).append(min(seconds))

    def note_slowdowns(self, in_threads: float, in_processes: float) -> None:
        """Keep the slowdowns where they are less than those measured before."""
        threads, processes = self.slowdowns
        self.slowdowns = min(threads, in_threads), min(processes, in_processes)

    def costs(self) -> KernelCosts:
        """The constants of the kernel by the rounds so far."""
        workload = kernels.get_workload(self.workload)
        calls = {key: statistics.median(seconds) for key, seconds in self.rounds.items()}
        call, idle = calls["", 1], calls["", IDLE_ITEMS]
        item = max(0.0, idle - call) / (IDLE_ITEMS - 1)

        def operation_seconds(term: str, size: int) -> float:
            operations = workload.operations(probe(self.workload, term, size))[term]
            beside = call - item + size * item
            return (calls[term, size] - beside) / (size * operations)

        def by_size(term: str) -> tuple[float, ...]:
            """Seconds of an operation for each size, none less than in the largest call, which is
            nearly all operations: in a small call, a disturbance could leave nothing of them.
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


def probe(workload: str, term: str, size: int) -> Parameters:
    """Return parameters under which only `term` has operations, for a call with `size` items."""
    found = kernels.get_workload(workload)
    whole = found.probes[term]
    fewer = max(1, size // WHOLE_PROBE_ITEMS)
    (first, *_) = (name for each in found.terms if each.name == term for name, _ in each.probe)
    return {**whole, first: max(1, whole[first] // fewer)}


def time_call(workload: str, kernel: str, count: int, parameters: Parameters) -> float:
    """Time a call with `count` simulated items, in seconds. Worker processes call this, too."""
    columns = kernels.get_workload(workload).simulated_columns(np.arange(count, dtype=np.int64))
    run = kernels.get_kernel(workload, kernel).run
    started = time.perf_counter()
    run(columns, parameters)
    return time.perf_counter() - started


def thread_slowdown(call: Probe, cpus: int) -> float:
    """Return the seconds of a call in `cpus` threads at once ÷ the seconds of the call alone.

    Threads of a kernel that holds the GIL take turns, so their slowdown is `cpus`. Measuring it
    would miss the time that a thread waits for the GIL before its call begins.
    """
    if cpus == 1:
        return 1.0
    if has_gil() and not kernels.get_kernel(call.workload, call.kernel).releases_gil:
        return float(cpus)
    return slowdown_in_threads(lambda: time_call(*call), cpus)


def slowdown_in_threads(timed: Callable[[], float], cpus: int) -> float:
    """Return the seconds that a call takes in `cpus` threads at once ÷ its seconds alone."""
    start = threading.Barrier(cpus)

    def call_with_others() -> float:
        start.wait()
        return timed()

    alone, together = [], []
    with ThreadPoolExecutor(cpus) as threads:
        for _ in range(CONTENTION_WARM_UP + CONTENTION_ROUNDS):
            alone.append(timed())
            calls = [threads.submit(call_with_others) for _ in range(cpus)]
            together.append(_mean([each.result() for each in calls]))
    return slowdown(alone, together, cpus)


async def process_slowdown(pool: ProcessPool, call: Probe, cpus: int) -> float:
    """Return the slowdown in worker processes; `pool` is warm and has a worker for each CPU."""
    if cpus == 1:
        return 1.0
    alone, together = [], []
    for _ in range(CONTENTION_WARM_UP + CONTENTION_ROUNDS):
        alone.append(await pool.submit(time_call, *call))
        calls = (pool.submit(time_call, *call) for _ in range(cpus))
        together.append(_mean(await asyncio.gather(*calls)))
    return slowdown(alone, together, cpus)


def slowdown(alone: Sequence[float], together: Sequence[float], cpus: int) -> float:
    """Return the slowdown in the least disturbed rounds, from 1 to the number of CPUs."""
    fastest = min(together[CONTENTION_WARM_UP:]) / min(alone[CONTENTION_WARM_UP:])
    return min(float(cpus), max(1.0, fastest))


def sized_call(kernel: KernelCosts, seconds: float) -> Probe:
    """Return a call with default parameters that takes about `seconds`."""
    workload = kernels.get_workload(kernel.workload)
    parameters = workload.resolve_parameters()
    item = kernel.seconds_of_call(workload.operations(parameters), SIZING_ITEMS) / SIZING_ITEMS
    return Probe(kernel.workload, kernel.kernel, max(1, round(seconds / item)), parameters)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
