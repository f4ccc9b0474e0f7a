"""Facts about this machine that need no calibration, so that no request has to wait: its system,
its kernels as the run hosts report them at their start, and constants of the cost model from these
reports and typical values.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from statistics import fmean
from typing import Any, Final

from hotloop import kernels
from hotloop.app.check.storage import Certificates
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.memory import usable_bytes
from hotloop.app.runhost.calibrate import constants
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.service import (
    ColumnView,
    KernelList,
    KernelView,
    OwnWorkloadView,
    ParameterView,
    ProductBoundView,
    TermView,
    WorkloadView,
)
from hotloop.app.strategies.registry import uses_processes
from hotloop.app.system import Throttling, cpu_model, has_gil, throttling, usable_cpu_count
from hotloop.app.version import VERSION
from hotloop.app.workloads.catalogue import Catalogue
from hotloop.kernels.contract import REFERENCE

PACKAGES: Final = ("numpy", "numba", "fastapi", "uvicorn", "pydantic")


def host_facts(reports: Sequence[KernelReport], workload: str | None) -> dict[str, Any]:
    """Return the machine as JSON, with the kernels of a workload, or of all for None. Blocks while
    it reads a few files.
    """
    return {
        "python": platform.python_version(),
        "gil": "on" if has_gil() else "off",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": cpu_model(),
        "cpus": os.cpu_count() or 1,
        "usable_cpus": usable_cpu_count(),
        "memory_bytes": usable_bytes(),
        "load_before": load_average(),
        "load_after": None,
        "throttled_seconds": None,
        "instruction_sets": {
            r.kernel: r.instruction_set
            for r in reports
            if r.available and workload in (None, r.workload)
        },
        "versions": {"hotloop": VERSION} | {name: _version(name) for name in PACKAGES},
    }


def load_average() -> float | None:
    """Return the load average of the last minute; None where the system has none."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def throttled_since(before: Throttling | None) -> float | None:
    """Return the seconds for which the CPU quota held processes back since `before`, if known."""
    now = throttling()
    return None if now is None else now.seconds_since(before)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


class KernelService:
    """Lists workloads and kernels, and what became of the operator's own ones."""

    def __init__(self, catalogue: Catalogue, certificates: Certificates) -> None:
        self._catalogue = catalogue
        self._certificates = certificates

    @property
    def is_loading(self) -> bool:
        """True as long as own workloads may still be found."""
        return self._catalogue.is_loading

    async def list(self, workload: str | None = None) -> KernelList:
        """Return all workloads and kernels, or those of one workload. Raises NotReadyError."""

        def wanted(name: str | None) -> bool:
            return workload is None or name == workload

        reports = [each for each in await self._catalogue.reports() if wanted(each.workload)]
        marks = await asyncio.to_thread(lambda: [self._mark(each) for each in reports])
        return KernelList(
            workloads=[
                workload_view(each) for each in kernels.declared_workloads() if wanted(each.name)
            ],
            kernels=[
                _kernel_view(report, mark) for report, mark in zip(reports, marks, strict=True)
            ],
            own_workloads=[
                OwnWorkloadView.model_validate(each, from_attributes=True)
                for each in self._catalogue.own
                if wanted(each.workload)
            ],
        )

    def _mark(self, report: KernelReport) -> str | None:
        source = kernels.get_workload(report.workload).source
        version = None if source is None else source.version
        return self._certificates.mark(report.workload, version, report.kernel)


def workload_view(workload: kernels.Workload) -> WorkloadView:
    """Return the declaration of a workload as clients see it."""
    source = workload.source
    return WorkloadView(
        name=workload.name,
        description=workload.description,
        columns_in=[_column_view(column) for column in workload.columns_in],
        columns_out=[_column_view(column) for column in workload.columns_out],
        parameters=[
            ParameterView.model_validate(each, from_attributes=True) for each in workload.parameters
        ],
        product_bounds=[
            ProductBoundView.model_validate(each, from_attributes=True)
            for each in workload.product_bounds
        ],
        terms=[TermView.model_validate(each, from_attributes=True) for each in workload.terms],
        depends_on_data=workload.depends_on_data,
        source=None if source is None else f"{source.module}:{source.attribute}",
        version=None if source is None else source.short_version,
    )


def _column_view(column: kernels.Column) -> ColumnView:
    names = ColumnView.model_fields.keys() - {"example"}
    fields: dict[str, Any] = {name: getattr(column, name) for name in names}
    return ColumnView(**fields, example=replace(column, width=None).example())


def _kernel_view(report: KernelReport, certificate: str | None) -> KernelView:
    operations = kernels.get_workload(report.workload).operations()
    ns_per_item = nanoseconds_per_item(report, operations) if report.available else None
    fields = {name: value for name, value in asdict(report).items() if name != "ns_beside"}
    return KernelView(**fields, ns_per_item=ns_per_item, certificate=certificate)


def nanoseconds_per_item(report: KernelReport, operations: Mapping[str, float]) -> float:
    """Return the nanoseconds of an item with these `operations`, see `Workload.operations`."""
    terms = (report.ns_per_operation[term] * count for term, count in operations.items())
    return report.ns_beside + sum(terms)


CALL_SECONDS: Final = 20e-6
"""Seconds of a kernel call without items: validation and columns."""

WORKER_BYTES: Final = 40 << 20
BASE_BYTES: Final = 170 << 20
SETUP_SECONDS: Final = 0.7

IN_THREADS: Final = constants.StrategyCosts(
    start_seconds=0.6e-3,
    empty_batch_seconds=0.2e-3,
    full_batch_seconds=0.15e-3,
    full_seconds=0.3e-3,
    worker_seconds=0.15e-3,
    item_seconds=20e-9,
    setup_seconds=0.0,
    worker_bytes=0,
)
IN_PROCESSES: Final = constants.StrategyCosts(
    start_seconds=1.5e-3,
    empty_batch_seconds=0.35e-3,
    full_batch_seconds=0.5e-3,
    full_seconds=0.3e-3,
    worker_seconds=0.3e-3,
    item_seconds=80e-9,
    setup_seconds=SETUP_SECONDS,
    worker_bytes=WORKER_BYTES,
)
WAITS: Final = constants.WaitCosts(
    overshoot_seconds=90e-6,
    async_overshoot_seconds=0.5e-3,
    in_flight_bytes=1_500,
)
ITEM_SECONDS: Final = (4e-6, 5e-6, 7e-6)
STAGE_SECONDS: Final = (4e-6, 7e-6, 13e-6)
LOOPS: Final[Mapping[str, constants.LoopCosts]] = {
    StrategyName.ASYNC_BATCH: constants.LoopCosts(ITEM_SECONDS, STAGE_SECONDS, 6e-6, 0.0),
    StrategyName.HYBRID: constants.LoopCosts(ITEM_SECONDS, STAGE_SECONDS, 6e-6, 0.4e-3),
}
"""Costs of the event loop. These constants and the ones above are rounded medians of calibrations
of the idle machine of docs/model.md, made by `python -m benchmarks.report model`."""

REFERENCE_WORKLOAD: Final = "loops"
REFERENCE_NS: Final[Mapping[str, float]] = {"loop": 125.0, "nested": 63.0}
"""Nanoseconds of an operation of the python kernel of `loops` on that machine, by cost term
(docs/performance.md has the seconds of an item)."""

PACES: Final = (0.2, 10.0)
"""Least and greatest factor by which the typical constants are scaled."""


def reported_calibration(
    reports: Sequence[KernelReport], usable_cpus: int, max_threads: int, max_processes: int
) -> constants.Calibration:
    """Return constants without a calibration: kernels as reported, and typical values at this
    machine's pace. Kernels that release the GIL are assumed not to slow each other down.
    """
    slower = pace(reports)
    return constants.Calibration(
        usable_cpus=usable_cpus,
        max_threads=max_threads,
        max_processes=max_processes,
        kernels=tuple(_kernel_costs(r, usable_cpus, slower) for r in reports if r.available),
        strategies={
            name: _at_pace(
                IN_PROCESSES if uses_processes(name, releases_gil=True) else IN_THREADS, slower
            )
            for name in StrategyName
            if name not in CLUSTERS
        },
        waits=WAITS,
        loops={name: _loop_at_pace(costs, slower) for name, costs in LOOPS.items()},
        base_bytes=BASE_BYTES,
    )


def pace(reports: Sequence[KernelReport]) -> float:
    """Return the seconds of the `python` kernel here ÷ its seconds on the machine of the typical
    constants; 1 if unknown.
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


def _at_pace(costs: constants.StrategyCosts, slower: float) -> constants.StrategyCosts:
    seconds = {
        name: slower * value for name, value in asdict(costs).items() if name.endswith("_seconds")
    }
    return replace(costs, **seconds)


def _loop_at_pace(costs: constants.LoopCosts, slower: float) -> constants.LoopCosts:
    return constants.LoopCosts(
        item_seconds=tuple(slower * each for each in costs.item_seconds),
        stage_seconds=tuple(slower * each for each in costs.stage_seconds),
        task_seconds=slower * costs.task_seconds,
        batch_seconds=slower * costs.batch_seconds,
    )


def _kernel_costs(report: KernelReport, usable_cpus: int, slower: float) -> constants.KernelCosts:
    return constants.KernelCosts(
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
