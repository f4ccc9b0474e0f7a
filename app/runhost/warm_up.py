"""Loading, compiling and measuring every kernel before the first run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

import kernels
from app.runhost.messages import KernelReport
from app.sources.base import Columns

PROBE_SECONDS: Final = 0.004
"""A probe is repeated with twice the items until one call takes this long."""

PROBE_ROUNDS: Final = 3
"""The fastest of these counts: what disturbs a probe only ever makes it slower."""


def warm_up_kernels() -> Iterator[KernelReport]:
    """Make every available kernel ready to run at full speed, and report on each known one."""
    for workload in kernels.workloads():
        for name in kernels.known_kernels(workload):
            yield _warm_up(workload, name)


def _warm_up(workload: str, name: str) -> KernelReport:
    started = time.perf_counter()
    reason = kernels.why_unavailable(workload, name)
    if reason is not None:
        return KernelReport(workload, name, False, reason, False, None, 0.0, {})
    kernel = kernels.get_kernel(workload, name)
    try:
        kernel.warm_up()
    except Exception as error:
        reason = f"it does not warm up: {type(error).__name__}: {error}"
        return KernelReport(workload, name, False, reason, False, None, 0.0, {})
    warm_up_seconds = time.perf_counter() - started
    return KernelReport(
        workload=workload,
        kernel=name,
        available=True,
        reason=None,
        releases_gil=kernel.releases_gil,
        instruction_set=kernel.instruction_set,
        warm_up_seconds=warm_up_seconds,
        ns_per_operation={
            term: _probe(kernel, term) for term in kernels.get_workload(workload).probes
        },
    )


def _probe(kernel: kernels.Kernel, term: str) -> float:
    """Nanoseconds for one elementary operation of this cost term."""
    workload = kernel.workload
    parameters = workload.probes[term]
    operations = workload.operations(parameters)[term]
    count = 1
    while True:
        columns = workload.simulated_columns(np.arange(count, dtype=np.int64))
        fastest = min(_timed(kernel, columns, parameters) for _ in range(PROBE_ROUNDS))
        if fastest >= PROBE_SECONDS:
            return fastest * 1e9 / (count * operations)
        count *= 2


def _timed(
    kernel: kernels.Kernel, columns: Columns, parameters: Mapping[str, int]
) -> float:
    started = time.perf_counter()
    kernel.run(columns, parameters)
    return time.perf_counter() - started
