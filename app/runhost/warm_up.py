"""Loading, compiling and measuring every kernel before the first run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hotloop import kernels
from hotloop.app.runhost.messages import KernelReport

PROBE_SECONDS: Final = 0.004
"""A probe has as many items as it takes to run this long."""

PROBE_ROUNDS: Final = 5
"""Rounds over all kernels; the fastest counts, as what disturbs a probe only makes it slower."""


def warm_up_kernels() -> tuple[KernelReport, ...]:
    """Make every available kernel ready to run at full speed, and report on each known one."""
    reports = [
        _warm_up(workload, name)
        for workload in kernels.workloads()
        for name in kernels.known_kernels(workload)
    ]
    probes = [_Probe.sized(r, term) for r in reports if r.available for term in _terms(r)]
    for _ in range(PROBE_ROUNDS):
        for probe in probes:
            probe.run()
    return tuple(
        replace(
            report,
            ns_per_operation={p.term: p.ns_per_operation for p in probes if p.report is report},
        )
        for report in reports
    )


def _terms(report: KernelReport) -> tuple[str, ...]:
    return tuple(kernels.get_workload(report.workload).probes)


def _warm_up(workload: str, name: str) -> KernelReport:
    started = time.perf_counter()
    reason = kernels.why_unavailable(workload, name)
    if reason is None:
        kernel = kernels.get_kernel(workload, name)
        try:
            kernel.warm_up()
        except Exception as error:
            reason = f"it does not warm up: {type(error).__name__}: {error}"
    if reason is not None:
        return KernelReport(workload, name, False, reason, False, None, 0.0, {})
    return KernelReport(
        workload=workload,
        kernel=name,
        available=True,
        reason=None,
        releases_gil=kernel.releases_gil,
        instruction_set=kernel.instruction_set,
        warm_up_seconds=time.perf_counter() - started,
        ns_per_operation={},
    )


@dataclass(slots=True)
class _Probe:
    """One cost term of one kernel, timed on `count` simulated items."""

    report: KernelReport
    term: str
    count: int = 1
    fastest_seconds: float = float("inf")

    @classmethod
    def sized(cls, report: KernelReport, term: str) -> _Probe:
        probe = cls(report, term)
        while probe.run() < PROBE_SECONDS:
            probe.count *= 2
            probe.fastest_seconds = float("inf")
        return probe

    def run(self) -> float:
        """Seconds of one more call."""
        workload = kernels.get_workload(self.report.workload)
        columns = workload.simulated_columns(np.arange(self.count, dtype=np.int64))
        kernel = kernels.get_kernel(self.report.workload, self.report.kernel)
        started = time.perf_counter()
        kernel.run(columns, workload.probes[self.term])
        seconds = time.perf_counter() - started
        self.fastest_seconds = min(self.fastest_seconds, seconds)
        return seconds

    @property
    def ns_per_operation(self) -> float:
        workload = kernels.get_workload(self.report.workload)
        operations = workload.operations(workload.probes[self.term])[self.term]
        return self.fastest_seconds * 1e9 / (self.count * operations)
