"""The life of a worker process: start, warm-up, and end with its parent."""

from __future__ import annotations

import faulthandler
import signal
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from typing import Final

import numpy as np

from hotloop import kernels
from hotloop.app.logs.setup import LogOptions, set_up_logging
from hotloop.app.sources.base import Batch, ItemBatch, Items
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies import own_code
from hotloop.app.strategies.base import BatchResult, Plan, Words, count_in
from hotloop.app.strategies.worker import run_batch
from hotloop.app.system import bound_freed_memory, end_with_parent, end_with_starter
from hotloop.kernels.kernel import empty_columns

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
    faulthandler.enable()  # a crash of a kernel says where it was
    _words = words
    if logs is not None:
        set_up_logging(logs, "worker")
    _barrier = barrier
    choose_instruction_set(instruction_set)
    bound_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(lifelines)


def choose_instruction_set(instruction_set: str | None) -> None:
    """Make every built-in kernel of this process that has the instruction set use it; None: the
    best.
    """
    if instruction_set is None:
        return
    for workload in kernels.declared_workloads():
        if workload.source is not None:
            continue
        for kernel in kernels.available_kernels(workload.name):
            if instruction_set in kernels.instruction_sets(workload.name, kernel):
                kernels.force_instruction_set(workload.name, kernel, instruction_set)


@dataclass(frozen=True, slots=True)
class _NoItems:
    """The items of a batch that has none; a user's function might fail, or never end, for any."""

    count: int = 0

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        columns = empty_columns(kernels.get_workload(workload).columns_in)
        return ItemBatch(np.empty(0, np.int64), columns)


def warm_up_worker(plan: Plan) -> BatchResult:
    """Load and compile the plan's kernel, and compute one item without operations and I/O, or none
    with a user's kernel, so that a run does nothing for the first time: the plan's modules are
    imported, and a result is sent.

    Waits for the other workers, so that of as many calls as there are workers each worker gets one.
    Raises threading.BrokenBarrierError when one of them died meanwhile, WorkloadUnusableError.
    """
    assert _barrier is not None
    try:
        result = _first_batch(plan)
    except BaseException:
        _barrier.abort()  # the others need not wait for this worker
        raise
    # The barrier gives each worker another number.
    count_in(_words, _barrier.wait(WARM_UP_TIMEOUT_SECONDS))
    return result


def _first_batch(plan: Plan) -> BatchResult:
    own_code.enter(plan)
    own_code.warm_up(plan)
    idle = kernels.get_workload(plan.workload).idle_parameters
    items: Items = GeneratedItems(1) if plan.source is None else _NoItems()
    first = replace(plan, items=items, stages=(), parameters=idle)
    return run_batch(first, Batch(0, 0, items.count))
