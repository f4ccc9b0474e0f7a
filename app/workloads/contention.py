"""In a child process: by what a kernel is slower while all CPUs compute."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Final

import numpy as np

from hotloop.app.runhost.calibrate.kernel_costs import (
    CONTENTION_ROUNDS,
    CONTENTION_WARM_UP,
    SLOWDOWN_SECONDS,
    slowdown,
    slowdown_in_threads,
)
from hotloop.app.system import has_gil
from hotloop.app.workloads.cost_fit import Fit, settings_of
from hotloop.app.workloads.timing import BUDGET_SECONDS, KernelTimer, Parameters

MOST_ITEMS: Final = 32_768
"""Most items of a call that measures contention."""


def slowdowns(
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
    count = max(1, min(timer.most_items, MOST_ITEMS, fitting))

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
