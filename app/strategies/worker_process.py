"""The life of a worker process: start, warm-up, and end with its parent."""

from __future__ import annotations

import signal
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from typing import Final

from hotloop import kernels
from hotloop.app.logs.setup import LogOptions, set_up_logging
from hotloop.app.sources.base import Batch
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult, Plan, Words, count_in
from hotloop.app.strategies.worker import run_batch
from hotloop.app.system import end_with_parent, end_with_starter, return_freed_memory

WARM_UP_TIMEOUT_SECONDS: Final = 120.0
"""Time for all workers of a pool to start and compile; a slow machine takes about 10 s."""

_barrier: Barrier | None = None
_words: Words = []

lifelines: Final[list[int]] = []
"""Descriptors that become readable when a process on which this one depends is gone."""


def initialise_worker(
    barrier: Barrier, words: Words, instruction_set: str | None, logs: LogOptions | None
) -> None:
    """Prepare a worker before anything else. `barrier` and `words` have a place for every worker of
    the pool; `logs` are the run host's options for its own log.
    """
    global _barrier, _words
    end_with_starter()
    _words = words
    if logs is not None:
        set_up_logging(logs, "worker")
    _barrier = barrier
    choose_instruction_set(instruction_set)
    return_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(lifelines)


def choose_instruction_set(instruction_set: str | None) -> None:
    """Make every kernel of this process that has the instruction set use it; None: the best."""
    if instruction_set is None:
        return
    for workload in kernels.workloads():
        for kernel in kernels.available_kernels(workload):
            if instruction_set in kernels.instruction_sets(workload, kernel):
                kernels.force_instruction_set(workload, kernel, instruction_set)


def warm_up_worker(plan: Plan) -> BatchResult:
    """Load and compile the plan's kernel, and compute one item without operations and I/O, so that
    a run does nothing for the first time: the plan's modules are imported, and a result is sent.

    Waits for the other workers, so that of as many calls as there are workers each worker gets one.
    Raises threading.BrokenBarrierError when one of them died meanwhile.
    """
    kernels.get_kernel(plan.workload, plan.kernel).warm_up()
    idle = kernels.get_workload(plan.workload).idle_parameters
    item = replace(plan, items=GeneratedItems(1), stages=(), parameters=idle)
    result = run_batch(item, Batch(0, 0, 1))
    assert _barrier is not None
    # The barrier gives each worker another number.
    count_in(_words, _barrier.wait(WARM_UP_TIMEOUT_SECONDS))
    return result
