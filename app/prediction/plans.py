"""From what a client asked for to a plan that a run host can execute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hotloop import kernels
from hotloop.app.errors import EstimateTooLongError, InvalidRequestError
from hotloop.app.names import StrategyName
from hotloop.app.prediction.batch_size import with_batch_size
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.prediction.reported_costs import nanoseconds_per_item
from hotloop.app.prediction.stages import make_stages
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.options import AUTO
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items, Parameters
from hotloop.app.strategies.base import Plan

BY_PREFERENCE: Final = (
    StrategyName.HYBRID,
    StrategyName.THREADING,
    StrategyName.CONCURRENT_FUTURES,
    StrategyName.MULTIPROCESSING,
    StrategyName.ASYNC_BATCH,
    StrategyName.SEQUENTIAL,
)
"""Of strategies that are estimated alike, `auto` takes the first of these."""

WAY_OUT = (
    "Ask for it in the background (Prefer: respond-async), for fewer items, a compiled kernel or "
    "more workers, or use hybrid, which waits for io_concurrency items at once."
)


SLICE_SECONDS: Final = 0.25
"""Seconds of computing after which progress should move."""

LANES: Final = 64
"""Slices are a multiple of it, as compiled kernels compute so many items side by side."""

MAX_SLICE: Final = 1 << 30


def make_plan(
    strategy: StrategyName,
    request: RunRequest | UploadQuery,
    items: Items,
    reports: Sequence[KernelReport],
    calibration: Calibration,
    settings: Settings,
    ranges: tuple[tuple[int, int], ...] | None = None,
) -> Plan:
    """A complete plan for all items, or those in `ranges`; its batch size fits these and has to be
    chosen anew for others.

    Raises InvalidRequestError for an unknown workload, or a kernel or a source that is not
    available, and kernels.InvalidParameterError.
    """
    if request.workload not in kernels.workloads():
        raise InvalidRequestError(
            "workload",
            f"{request.workload!r} is unknown; choose from: {', '.join(kernels.workloads())}",
        )
    parameters = kernels.get_workload(request.workload).resolve_parameters(request.parameters)
    kernel = _resolve_kernel(request, parameters, reports)
    plan = Plan(
        workload=request.workload,
        kernel=kernel,
        strategy=strategy,
        items=items,
        stages=make_stages(request, settings),
        parameters=parameters,
        batch_size=1,
        ranges=ranges,
        workers=request.workers,
        io_concurrency=request.io_concurrency,
        timeout_seconds=request.timeout_seconds,
        max_error_rate=request.max_error_rate,
        slice_items=_slice_items(request.workload, kernel, parameters, reports),
    )
    return with_batch_size(plan, request, calibration)


def _slice_items(
    workload: str, kernel: str, parameters: Parameters, reports: Sequence[KernelReport]
) -> int:
    """Return the number of items that a kernel computes in about SLICE_SECONDS."""
    operations = kernels.get_workload(workload).operations(parameters)
    (report,) = (r for r in reports if (r.workload, r.kernel) == (workload, kernel))
    nanoseconds = nanoseconds_per_item(report, operations)
    count = MAX_SLICE if nanoseconds <= 0 else min(MAX_SLICE, SLICE_SECONDS * 1e9 // nanoseconds)
    return max(1, int(count) // LANES * LANES or int(count))


def _resolve_kernel(
    request: RunRequest | UploadQuery,
    parameters: Parameters,
    reports: Sequence[KernelReport],
) -> str:
    candidates = [r for r in reports if r.workload == request.workload]
    if request.kernel == AUTO:
        operations = kernels.get_workload(request.workload).operations(parameters)
        return min(
            (r for r in candidates if r.available),
            key=lambda r: nanoseconds_per_item(r, operations),
        ).kernel
    for report in candidates:
        if report.kernel == request.kernel:
            if not report.available:
                raise InvalidRequestError("kernel", f"{report.kernel}: {report.reason}")
            return report.kernel
    names = ", ".join(r.kernel for r in candidates)
    raise InvalidRequestError(
        "kernel", f"{request.workload} has no kernel {request.kernel!r}; choose from: {names}"
    )


def check_estimate(plan: Plan, calibration: Calibration, limit_seconds: float) -> float:
    """The estimate. Raises EstimateTooLongError."""
    estimate = estimate_seconds(plan, calibration)
    if estimate > limit_seconds:
        raise EstimateTooLongError(estimate, limit_seconds, WAY_OUT)
    return estimate
