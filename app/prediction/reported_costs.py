"""The constants of the cost model before anything was calibrated: kernels as the run hosts report
them at their start, and for the rest typical values at the pace of this machine, so that no request
has to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from hotloop.app.names import StrategyName
from hotloop.app.runhost.calibrate.constants import (
    Calibration,
    KernelCosts,
    LoopCosts,
    StrategyCosts,
    WaitCosts,
)
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.strategies.registry import uses_processes
from hotloop.kernels.contract import REFERENCE

CALL_SECONDS: Final = 20e-6
"""A kernel call without items: validation and columns."""

WORKER_BYTES: Final = 40 << 20
BASE_BYTES: Final = 170 << 20
SETUP_SECONDS: Final = 0.7

IN_THREADS: Final = StrategyCosts(
    start_seconds=0.6e-3,
    empty_batch_seconds=0.2e-3,
    full_batch_seconds=0.15e-3,
    full_seconds=0.3e-3,
    worker_seconds=0.15e-3,
    item_seconds=20e-9,
    setup_seconds=0.0,
    worker_bytes=0,
)
IN_PROCESSES: Final = StrategyCosts(
    start_seconds=1.5e-3,
    empty_batch_seconds=0.35e-3,
    full_batch_seconds=0.5e-3,
    full_seconds=0.3e-3,
    worker_seconds=0.3e-3,
    item_seconds=80e-9,
    setup_seconds=SETUP_SECONDS,
    worker_bytes=WORKER_BYTES,
)
WAITS: Final = WaitCosts(
    overshoot_seconds=90e-6,
    async_overshoot_seconds=0.5e-3,
    in_flight_bytes=1_500,
)
ITEM_SECONDS: Final = (4e-6, 5e-6, 7e-6)
STAGE_SECONDS: Final = (4e-6, 7e-6, 13e-6)
LOOPS: Final[Mapping[str, LoopCosts]] = {
    StrategyName.ASYNC_BATCH: LoopCosts(ITEM_SECONDS, STAGE_SECONDS, 6e-6, 0.0),
    StrategyName.HYBRID: LoopCosts(ITEM_SECONDS, STAGE_SECONDS, 6e-6, 0.4e-3),
}
"""These and those above are medians of calibrations of the idle machine of docs/model.md, rounded,
as `python -m benchmarks.report model` makes them."""

REFERENCE_WORKLOAD: Final = "loops"
REFERENCE_NS: Final[Mapping[str, float]] = {"loop": 125.0, "nested": 63.0}
"""Nanoseconds of an operation of the python kernel of `loops` on that machine, by cost term
(docs/performance.md has the seconds of an item)."""

PACES: Final = (0.2, 10.0)
"""The least and the most that the typical constants are scaled by."""


def nanoseconds_per_item(report: KernelReport, operations: Mapping[str, int]) -> float:
    """`operations` by cost term, as `Workload.operations` gives them."""
    return sum(report.ns_per_operation[term] * count for term, count in operations.items())


def reported_calibration(
    reports: Sequence[KernelReport], usable_cpus: int, max_threads: int, max_processes: int
) -> Calibration:
    """Constants that were not measured here: those of kernels as reported, the others typical ones
    at this machine's pace. Kernels that release the GIL are taken to run on all CPUs without
    slowing each other.
    """
    slower = pace(reports)
    return Calibration(
        usable_cpus=usable_cpus,
        max_threads=max_threads,
        max_processes=max_processes,
        kernels=tuple(_kernel_costs(r, usable_cpus, slower) for r in reports if r.available),
        strategies={
            name: _at_pace(
                IN_PROCESSES if uses_processes(name, releases_gil=True) else IN_THREADS, slower
            )
            for name in StrategyName
        },
        waits=WAITS,
        loops={name: _loop_at_pace(costs, slower) for name, costs in LOOPS.items()},
        base_bytes=BASE_BYTES,
    )


def pace(reports: Sequence[KernelReport]) -> float:
    """Seconds of the `python` kernel here ÷ those on the machine of the typical constants; 1 where
    that is not known.
    """
    found = [
        ns / REFERENCE_NS[term]
        for report in reports
        if (report.workload, report.kernel) == (REFERENCE_WORKLOAD, REFERENCE)
        for term, ns in report.ns_per_operation.items()
        if term in REFERENCE_NS
    ]
    least, most = PACES
    return min(most, max(least, fmean(found))) if found else 1.0


def _at_pace(costs: StrategyCosts, slower: float) -> StrategyCosts:
    return StrategyCosts(
        start_seconds=slower * costs.start_seconds,
        empty_batch_seconds=slower * costs.empty_batch_seconds,
        full_batch_seconds=slower * costs.full_batch_seconds,
        full_seconds=slower * costs.full_seconds,
        worker_seconds=slower * costs.worker_seconds,
        item_seconds=slower * costs.item_seconds,
        setup_seconds=slower * costs.setup_seconds,
        worker_bytes=costs.worker_bytes,
    )


def _loop_at_pace(costs: LoopCosts, slower: float) -> LoopCosts:
    return LoopCosts(
        item_seconds=tuple(slower * each for each in costs.item_seconds),
        stage_seconds=tuple(slower * each for each in costs.stage_seconds),
        task_seconds=slower * costs.task_seconds,
        batch_seconds=slower * costs.batch_seconds,
    )


def _kernel_costs(report: KernelReport, usable_cpus: int, slower: float) -> KernelCosts:
    return KernelCosts(
        workload=report.workload,
        kernel=report.kernel,
        releases_gil=report.releases_gil,
        call_seconds=slower * CALL_SECONDS,
        item_seconds=0.0,
        sizes=(1,),
        operation_seconds={term: (ns / 1e9,) for term, ns in report.ns_per_operation.items()},
        thread_slowdown=1.0 if report.releases_gil else float(usable_cpus),
        process_slowdown=1.0,
    )
