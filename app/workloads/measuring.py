"""In a child process: makes the constants of a kernel's cost of timed calls."""

from __future__ import annotations

import statistics
import time
from typing import Any, Final

import numpy as np

from hotloop import kernels
from hotloop.app.runhost.calibrate.constants import KernelCosts
from hotloop.app.workloads.contention import slowdowns
from hotloop.app.workloads.cost_fit import Fit, Point, fitted, settings_of
from hotloop.app.workloads.timing import ENOUGH_SECONDS, KernelTimer, Parameters
from hotloop.kernels.kernel import Kernel

SIZES: Final = (1, 2, 4, 8, 16, 32, 63, 64, 127, 128, 512, 4_096, 32_768)
"""Items of the calls that are timed, as in `kernel_costs`, and more for items of nanoseconds, which
no longer fit into the caches."""

LONGEST_SECONDS: Final = 0.004
"""Longest call of several items: on a busy machine, the system gives the CPU to another process in
longer ones."""

ROUNDS: Final = 3
"""Most rounds over all settings and sizes; the median of a call counts."""

MADE_ITEMS: Final = 4_096
MAKING_ROUNDS: Final = 5
"""Items and rounds of measuring how long it takes to make items up."""

SAMPLED_ITEMS: Final = 20_000
"""Most items of a sample: where items differ, these show by how much."""

LEAST_SHARE: Final = 0.1
"""Least cost of an operation in a small call ÷ that in the largest call."""


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
    threads, processes = slowdowns(timer, fit, parameters, cpus)
    making_call, making_item = making_seconds(timer)
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
        making_call_seconds=making_call,
        making_item_seconds=making_item,
    )


def making_seconds(timer: KernelTimer) -> tuple[float, float]:
    """Return the seconds that it takes to make up the items of a batch, and those of each item,
    beyond those of the default workload.
    """
    own, default = timer.kernel.workload, kernels.declared_workloads()[0]
    many = min(MADE_ITEMS, timer.most_items)
    fastest: dict[tuple[str, int], float] = {}
    for _ in range(MAKING_ROUNDS):
        for workload in (own, default):
            for count in {1, many}:
                ids = np.arange(count, dtype=np.int64)
                started = time.perf_counter()
                workload.simulated_columns(ids)
                taken, key = time.perf_counter() - started, (workload.name, count)
                fastest[key] = min(taken, fastest.get(key, taken))
    one, all_ = (fastest[own.name, count] - fastest[default.name, count] for count in (1, many))
    return max(0.0, one), max(0.0, all_ - one) / many


def sampled_seconds(timer: KernelTimer, parameters: Parameters, beside: float) -> float:
    """Return the mean seconds of an item over as many items as the budget allows, in calls as long
    as others that are timed. `beside` are the seconds of a call without items.
    """
    total, done, size = 0.0, 0, 1
    while True:
        taken = timer.call(size, parameters, done)
        if taken < ENOUGH_SECONDS:
            taken = min(taken, timer.call(size, parameters, done))
        total, done = total + max(0.0, taken - beside), done + size
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
