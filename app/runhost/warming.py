"""The warm-up of a run host: kernels loaded, compiled and measured, and the interpreter set up."""

from __future__ import annotations

import gc
import sys
import time
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hotloop import kernels
from hotloop.app.runhost import messages
from hotloop.app.runhost.config import SWITCH_SECONDS

GARBAGE_THRESHOLD: Final = 50_000
"""New objects before the next garbage collection. With CPython's 700, collections would search
thousands of items in flight repeatedly, which takes longer than all other work."""

PROBE_SECONDS: Final = 0.004
"""Least time of a probe, which gets enough items for it."""

PROBE_ROUNDS: Final = 5
"""Rounds over all kernels; the fastest counts, because disturbances only make a probe slower."""


def tune_interpreter() -> None:
    """Set the interpreter up for long computing, and exempt all loaded objects from collection."""
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD, *gc.get_threshold()[1:])


def warm_up_kernels() -> tuple[messages.KernelReport, ...]:
    """Load, compile and measure every available kernel of built-in workloads, and report on each
    known one. Users' workloads are examined elsewhere.
    """
    reports = [
        _warm_up(workload, name)
        for workload in kernels.workloads()
        if kernels.get_workload(workload).source is None
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


def _terms(report: messages.KernelReport) -> tuple[str, ...]:
    return tuple(kernels.get_workload(report.workload).probes)


def _warm_up(workload: str, name: str) -> messages.KernelReport:
    started = time.perf_counter()
    reason = kernels.why_unavailable(workload, name)
    if reason is None:
        kernel = kernels.get_kernel(workload, name)
        try:
            kernel.warm_up()
        except Exception as error:
            reason = f"it does not warm up: {type(error).__name__}: {error}"
    if reason is not None:
        return messages.KernelReport(workload, name, False, reason, False, None, 0.0, {})
    return messages.KernelReport(
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
    """A cost term of a kernel, timed on `count` simulated items."""

    report: messages.KernelReport
    term: str
    count: int = 1
    fastest_seconds: float = float("inf")

    @classmethod
    def sized(cls, report: messages.KernelReport, term: str) -> _Probe:
        probe = cls(report, term)
        while probe.run() < PROBE_SECONDS:
            probe.count *= 2
            probe.fastest_seconds = float("inf")
        return probe

    def run(self) -> float:
        """Make one more call, and return its seconds."""
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
