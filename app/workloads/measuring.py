"""In a child process: times calls of one kernel, and makes the constants of its cost of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.runhost.calibrate.kernel_costs import (
    CONTENTION_ROUNDS,
    CONTENTION_WARM_UP,
    SLOWDOWN_SECONDS,
    slowdown,
    slowdown_in_threads,
)
from hotloop.app.system import has_gil
from hotloop.app.workloads.cost_fit import Fit, Point, fitted, settings_of
from hotloop.kernels.kernel import Kernel

SIZES: Final = (1, 2, 4, 8, 16, 32, 63, 64, 127, 128, 512, 4_096, 32_768)
"""Items of the calls that are timed, as in `kernel_costs`, and more for items of nanoseconds, which
no longer fit into the caches."""

LONGEST_SECONDS: Final = 0.012
"""Longest call of several items: the system gives the CPU to another process in longer ones."""

SHORTEST_SECONDS: Final = 0.001
"""Least time of a measurement; shorter calls are repeated until they take it together."""

MOST_CALLS: Final = 500
"""Most calls of a measurement."""

BUDGET_SECONDS: Final = 1.0
"""Time for all timed calls of a kernel but the first and those that measure contention."""

ROUNDS: Final = 3
"""Most rounds over all settings and sizes; the median of a call counts."""

MOST_BYTES: Final = 1 << 26
"""Most bytes of the input columns of a call."""

SAMPLED_ITEMS: Final = 20_000
"""Most items of a sample: where items differ, these show by how much."""

TRIED_ITEMS: Final = 64
"""Items that are tried one by one when a call with some of them raises an error."""

LEAST_SHARE: Final = 0.1
"""Least cost of an operation in a small call ÷ that in the largest call."""

Parameters = Mapping[str, Any]


@dataclass(slots=True)
class KernelTimer:
    """Calls of one kernel with made-up items, timed."""

    kernel: Kernel
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """The columns of the largest call so far."""
    good: NDArray[np.int64] | None = None
    """Ids of items that raise no error, once one did."""
    started: float = field(default_factory=time.perf_counter)

    @property
    def left(self) -> float:
        """Seconds of the budget that are left."""
        return BUDGET_SECONDS - (time.perf_counter() - self.started)

    @property
    def most_items(self) -> int:
        """The most items of a call, by the bytes of their columns."""
        width = sum((c.width or 1) * 8 for c in self.kernel.workload.columns_in)
        return max(1, MOST_BYTES // width)

    def call(self, count: int, parameters: Parameters, first: int = 0) -> float:
        """Compute `count` items from the item `first` on, and return the seconds. Raises what the
        kernel raises if no item can be computed.
        """
        columns = self._columns(first, count)
        try:
            started = time.perf_counter()
            self.kernel.run(columns, parameters)
            return time.perf_counter() - started
        except Exception:
            if self.good is not None:
                raise
        self._find_good(parameters)
        return self.call(count, parameters, first)

    def seconds(self, count: int, parameters: Parameters) -> float:
        """Return the seconds of the fastest of some calls, which are repeated if they are short."""
        fastest, total = inf, 0.0
        for _ in range(MOST_CALLS):
            taken = self.call(count, parameters)
            fastest, total = min(fastest, taken), total + taken
            if total >= SHORTEST_SECONDS:
                break
        return fastest

    def call_seconds(self, parameters: Parameters) -> float:
        """Return the seconds of a call without items, after a first one with an item that costs
        little. A kernel that cannot do without items is timed with that one.
        """
        workload = self.kernel.workload
        idle = workload.idle_parameters
        idle |= {p.name: parameters[p.name] for p in workload.parameters if not p.is_number}
        self.call(1, idle)
        self.started = time.perf_counter()
        try:
            return self.seconds(0, parameters)
        except Exception:
            return self.seconds(1, idle)

    def _columns(self, first: int, count: int) -> dict[str, NDArray[Any]]:
        name = self.kernel.workload.columns_in[0].name
        if not self.columns or len(self.columns[name]) < first + count:
            ids = np.arange(first + count, dtype=np.int64)
            if self.good is not None:
                ids = np.resize(self.good, first + count)
            self.columns = self.kernel.workload.simulated_columns(ids)
        return {name: column[first : first + count] for name, column in self.columns.items()}

    def _find_good(self, parameters: Parameters) -> None:
        last: Exception | None = None
        good, until = [], time.perf_counter() + BUDGET_SECONDS
        for number in range(TRIED_ITEMS):
            item = self.kernel.workload.simulated_columns(np.array([number], dtype=np.int64))
            try:
                self.kernel.run(item, parameters)
                good.append(number)
            except Exception as error:
                last = error
            if time.perf_counter() > until:
                break
        if not good and last is not None:
            raise last
        self.good, self.columns = np.array(good, dtype=np.int64), {}


def kernel_costs(kernel: Kernel, parameters: Parameters, cpus: int) -> KernelCosts:
    """Measure a kernel, in about two seconds if its items take less. Raises what the kernel raises
    for every item.
    """
    timer, workload = KernelTimer(kernel), kernel.workload
    beside = timer.call_seconds(parameters)
    if workload.depends_on_data:
        mean = sampled_seconds(timer, parameters, beside)
        fit, sizes = Fit(0.0, {workload.terms[0].name: mean}), {1: 1.0}
    else:
        fit, sizes = _fit(timer, parameters, beside)
    threads, processes = _slowdowns(timer, fit, parameters, cpus)
    return KernelCosts(
        workload=workload.name,
        kernel=kernel.name,
        releases_gil=kernel.releases_gil,
        call_seconds=beside,
        item_seconds=fit.item_seconds,
        sizes=tuple(sizes),
        operation_seconds={
            term: tuple(seconds * share for share in sizes.values())
            for term, seconds in fit.operation_seconds.items()
        },
        thread_slowdown=threads,
        process_slowdown=processes,
    )


def sampled_seconds(timer: KernelTimer, parameters: Parameters, beside: float) -> float:
    """Return the mean seconds of an item over as many items as the budget allows, in calls as long
    as others that are timed. `beside` are the seconds of a call without items.
    """
    total, done, size = 0.0, 0, 1
    while True:
        taken = max(0.0, timer.call(size, parameters, done) - beside)
        total, done = total + taken, done + size
        mean = total / done
        if done >= min(SAMPLED_ITEMS, timer.most_items) or timer.left < taken:
            return max(mean, 1e-12)
        fitting = LONGEST_SECONDS / mean if mean > 0 else size * 2
        size = max(1, min(size * 2, int(fitting), timer.most_items - done))


def _fit(timer: KernelTimer, parameters: Parameters, beside: float) -> tuple[Fit, dict[int, float]]:
    """Return the seconds of an item, and for each size of a call, by what share operations cost
    more there than in the largest call.
    """
    workload = timer.kernel.workload
    settings = settings_of(workload, parameters)
    operations = [workload.operations(each) for each in settings]
    counts = _affordable(timer, settings, beside)
    sizes = [size for size in SIZES if size <= counts[-1]]
    times: dict[tuple[int, int], list[float]] = {}
    """Seconds of each round, by the number of the setting and the items of the call."""
    for number in range(ROUNDS):
        for key in [
            *enumerate(counts),
            *((len(counts) - 1, size) for size in sizes[:-1]),
        ]:
            if number == 0 or timer.left > 0:
                times.setdefault(key, []).append(timer.seconds(key[1], settings[key[0]]))

    def each(place: int, count: int) -> float:
        return max(0.0, statistics.median(times[place, count]) - beside) / count

    points = [Point(operations[place], each(place, count)) for place, count in enumerate(counts)]
    fit = fitted([term.name for term in workload.terms], points)
    top = len(counts) - 1
    whole = max(each(top, counts[top]) - fit.item_seconds, 1e-12)
    shares = {size: max(0.0, each(top, size) - fit.item_seconds) / whole for size in sizes}
    # In a small call a disturbance could leave nothing of the operations.
    return fit, {size: max(LEAST_SHARE, share) for size, share in shares.items()}


def _affordable(timer: KernelTimer, settings: list[dict[str, Any]], beside: float) -> list[int]:
    """Return the items of the calls of each setting, from the cheapest on, as far as the budget
    goes. The first setting is always affordable.
    """
    workload, counts = timer.kernel.workload, list[int]()
    item = operations = 0.0
    for setting in settings:
        now = sum(workload.operations(setting).values())
        expected = item * now / operations if operations else 0.0
        # One item of the costliest setting is timed even if a round takes the whole budget.
        if counts and expected > timer.left:
            break
        size, taken = 1, timer.call(1, setting) - beside
        while 2 * taken < LONGEST_SECONDS and size < min(SIZES[-1], timer.most_items):
            size = min(2 * size, timer.most_items)
            taken = timer.call(size, setting) - beside
        counts.append(_size_below(size))
        item, operations = max(taken, 1e-9) / size, now
    return counts


def _size_below(count: int) -> int:
    return max(size for size in SIZES if size <= count)


def _slowdowns(
    timer: KernelTimer, fit: Fit, parameters: Parameters, cpus: int
) -> tuple[float, float]:
    """Return by what a call is slower in a thread and in a process on each CPU, with parameters
    that let a call end in time.
    """
    if cpus == 1:
        return 1.0, 1.0
    workload = timer.kernel.workload

    def item_seconds(setting: Parameters) -> float:
        return max(fit.seconds(workload.operations(setting)), 1e-9)

    settings = settings_of(workload, parameters)
    short = [each for each in settings if item_seconds(each) < SLOWDOWN_SECONDS]
    setting = (short or settings[:1])[-1]
    fitting = round(SLOWDOWN_SECONDS / item_seconds(setting))
    count = max(1, min(timer.most_items, SIZES[-1], fitting))

    def timed() -> float:
        return timer.call(count, setting)

    rounds = CONTENTION_WARM_UP + CONTENTION_ROUNDS
    if timed() * 2 * rounds > BUDGET_SECONDS:  # assume that each has a CPU for itself
        return (1.0 if timer.kernel.releases_gil else float(cpus)), 1.0
    if timer.kernel.releases_gil or not has_gil():
        # Such processes share the CPUs and nothing else, as its threads do.
        slowed = slowdown_in_threads(timed, cpus)
        return slowed, slowed
    return float(cpus), _slowdown_in_processes(timed, cpus)


def _slowdown_in_processes(timed: Callable[[], float], cpus: int) -> float:
    """Return the seconds of a call in `cpus` forked processes at once ÷ its seconds alone."""
    alone, together = [], []
    for _ in range(CONTENTION_WARM_UP + CONTENTION_ROUNDS):
        alone.append(timed())
        together.append(statistics.fmean(_timed_in_processes(timed, cpus)))
    return slowdown(alone, together, cpus)


def _timed_in_processes(timed: Callable[[], float], cpus: int) -> list[float]:
    wait, start = os.pipe()
    answer, answers = os.pipe()
    pids = []
    for _ in range(cpus):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(start)
                os.read(wait, 1)
                os.write(answers, np.float64(timed()).tobytes())
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(start)
    for pid in pids:
        os.waitpid(pid, 0)
    os.close(answers)
    found = np.frombuffer(os.read(answer, 8 * cpus), dtype=np.float64)
    os.close(wait)
    os.close(answer)
    if len(found) < cpus:
        raise RuntimeError("a forked process that computed some items has crashed")
    return [float(each) for each in found]
