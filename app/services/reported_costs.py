"""The constants of the cost model before anything was calibrated: kernels as the run hosts report
them at their start, and for the rest typical values, so that no request has to wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from app.names import StrategyName
from app.runhost.calibration import (
    Calibration,
    KernelCosts,
    LoopCosts,
    StrategyCosts,
    WaitCosts,
)
from app.runhost.messages import KernelReport
from app.strategies.registry import uses_processes

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
"""Of a machine of 2025, by `hotloop recommend`."""


def nanoseconds_per_item(report: KernelReport, operations: Mapping[str, int]) -> float:
    """`operations` by cost term, as `Workload.operations` gives them."""
    return sum(report.ns_per_operation[term] * count for term, count in operations.items())


def reported_calibration(
    reports: Sequence[KernelReport], usable_cpus: int, max_threads: int, max_processes: int
) -> Calibration:
    """Kernels that release the GIL are taken to run on all CPUs without slowing each other."""
    return Calibration(
        usable_cpus=usable_cpus,
        max_threads=max_threads,
        max_processes=max_processes,
        kernels=tuple(_kernel_costs(r, usable_cpus) for r in reports if r.available),
        strategies={
            name: IN_PROCESSES if uses_processes(name, releases_gil=True) else IN_THREADS
            for name in StrategyName
        },
        waits=WAITS,
        loops=LOOPS,
        base_bytes=BASE_BYTES,
    )


def _kernel_costs(report: KernelReport, usable_cpus: int) -> KernelCosts:
    return KernelCosts(
        workload=report.workload,
        kernel=report.kernel,
        releases_gil=report.releases_gil,
        call_seconds=CALL_SECONDS,
        item_seconds=0.0,
        sizes=(1,),
        operation_seconds={term: (ns / 1e9,) for term, ns in report.ns_per_operation.items()},
        thread_slowdown=1.0 if report.releases_gil else float(usable_cpus),
        process_slowdown=1.0,
    )
