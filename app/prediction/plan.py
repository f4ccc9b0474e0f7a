"""Making the plan of a request, which a run host can execute: kernel, batch size, slices.

The batch size follows from the plan and the constants of a machine alone; docs/model.md has the
formulas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

from hotloop import kernels
from hotloop.app.errors import EstimateTooLongError, InvalidRequestError
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.machine import nanoseconds_per_item
from hotloop.app.prediction.memory import item_bytes
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.prediction.stages import group_size, make_stages
from hotloop.app.prediction.waiting import blocking_seconds, waits_at_once
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.declared import unknown_workload
from hotloop.app.schemas.options import AUTO, RunOptions
from hotloop.app.schemas.runs import RunRequest, UploadQuery
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items, Parameters
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import window_size
from hotloop.app.strategies.pools import pool_workers
from hotloop.app.strategies.registry import CAPABILITIES, uses_processes
from hotloop.kernels.kernel import scratch_shape

BY_PREFERENCE: Final = (
    StrategyName.HYBRID,
    StrategyName.THREADING,
    StrategyName.CONCURRENT_FUTURES,
    StrategyName.MULTIPROCESSING,
    StrategyName.ASYNC_BATCH,
    StrategyName.SEQUENTIAL,
    StrategyName.DASK,
    StrategyName.RAY,
)
"""The strategies in the order in which `auto` prefers them if their estimates are equal."""

WAY_OUT: Final = (
    "Ask for it in the background (Prefer: respond-async), for fewer items, a compiled kernel or "
    "more workers, or use hybrid, which waits for io_concurrency items at once."
)

SLICE_SECONDS: Final = 0.25
"""Seconds of computing between two reports of progress."""

LANES: Final = 64
"""Number of items that compiled kernels compute side by side; slices are a multiple of it."""

MOST_WORKERS: Final = 256
"""The most workers of a run."""

MAX_SLICE: Final = 1 << 30

BATCHES_A_WORKER: Final = 4
"""Least number of batches of each worker, so that no worker is idle for long at the end."""

BATCH_SECONDS: Final = 1.0
"""Longest time of a batch in a worker; its results are stored at its end."""

OVERHEAD: Final = 0.02
"""Share of a run's seconds that its batches may cost."""

MOST_BYTES_IN_FLIGHT: Final = 128_000_000
"""Bytes of all batches in flight together: a million items without vectors."""

_LEAST_ITEM_SECONDS: Final = 1e-9
"""Seconds of an item without operations, which is still loaded and stored."""

_MANY: Final = 1_000
"""Items of a kernel call that is long enough for the item cost of a large batch."""


def make_plan(
    strategy: StrategyName,
    request: RunRequest | UploadQuery,
    items: Items,
    reports: Sequence[KernelReport],
    calibration: Calibration,
    settings: Settings,
    ranges: tuple[tuple[int, int], ...] | None = None,
) -> Plan:
    """A complete plan for all items, or for those in `ranges`. Its batch size fits these items and
    has to be chosen anew for others.

    Raises InvalidRequestError for an unknown workload and for a kernel or a source that is not
    available, and kernels.InvalidParameterError.
    """
    check_offered(strategy, settings)
    workload = check_workload(request.workload)
    parameters = workload.resolve_parameters(request.parameters)
    for scratch in workload.scratch:
        scratch_shape(scratch, parameters)  # raises for parameters with which no batch could run
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
        workers=_workers(strategy, request),
        io_concurrency=request.io_concurrency,
        timeout_seconds=request.timeout_seconds,
        max_error_rate=request.max_error_rate,
        slice_items=_slice_items(request.workload, kernel, parameters, reports),
        source=workload.source,
    )
    return with_batch_size(plan, request, calibration)


def check_offered(strategy: StrategyName, settings: Settings) -> None:
    """Raise InvalidRequestError for a strategy whose cluster this service does not have."""
    if strategy not in settings.offered_strategies:
        raise InvalidRequestError(
            "strategy",
            f"{strategy} needs a cluster, and this service has none; have the operator set "
            f"HOTLOOP_{strategy.upper()}_ADDRESS, or choose from: "
            f"{', '.join(settings.offered_strategies)}",
        )


def _workers(strategy: StrategyName, request: RunOptions) -> int:
    """Return the workers that a run may use: of a cluster all, unless the request limits them."""
    if strategy in CLUSTERS and "workers" not in request.model_fields_set:
        return MOST_WORKERS
    return request.workers


def preferred(settings: Settings, calibration: Calibration) -> tuple[StrategyName, ...]:
    """Return the strategies that `auto` chooses from: a cluster only once it is measured."""
    return tuple(
        name
        for name in BY_PREFERENCE
        if name not in CLUSTERS or (name in settings.clusters and name in calibration.clusters)
    )


def check_workload(name: str) -> kernels.Workload:
    """Return the workload. Raises InvalidRequestError for an unknown name."""
    if name not in kernels.workloads():
        raise InvalidRequestError("workload", unknown_workload(name))
    return kernels.get_workload(name)


def fastest_kernel(
    workload: str, parameters: Mapping[str, object], reports: Sequence[KernelReport]
) -> str:
    """Return the workload's available kernel that is fastest for an item. Raises
    kernels.InvalidParameterError, and InvalidRequestError if no kernel is available.
    """
    operations = kernels.get_workload(workload).operations(parameters)
    its_own = [report for report in reports if report.workload == workload]
    available = [report for report in its_own if report.available]
    if not available:
        reasons = "; ".join(f"{report.kernel}: {report.reason}" for report in its_own)
        raise InvalidRequestError("kernel", f"no kernel of {workload} is available ({reasons})")
    return min(available, key=lambda r: nanoseconds_per_item(r, operations)).kernel


def unknown_kernel(
    field: str, workload: str, name: str, known: Iterable[str]
) -> InvalidRequestError:
    """Return the error for a field that names a kernel which the workload does not have."""
    text = f"{workload} has no kernel {name!r}; choose from: {', '.join(known)}"
    return InvalidRequestError(field, text)


def _resolve_kernel(
    request: RunRequest | UploadQuery,
    parameters: Parameters,
    reports: Sequence[KernelReport],
) -> str:
    if request.kernel == AUTO:
        return fastest_kernel(request.workload, parameters, reports)
    found = {r.kernel: r for r in reports if r.workload == request.workload}
    report = found.get(request.kernel)
    if report is None:
        raise unknown_kernel("kernel", request.workload, request.kernel, found)
    if not report.available:
        raise InvalidRequestError("kernel", f"{report.kernel}: {report.reason}")
    return report.kernel


def _slice_items(
    workload: str, kernel: str, parameters: Parameters, reports: Sequence[KernelReport]
) -> int:
    """Return the number of items that a kernel computes in about SLICE_SECONDS."""
    operations = kernels.get_workload(workload).operations(parameters)
    (report,) = (r for r in reports if (r.workload, r.kernel) == (workload, kernel))
    nanoseconds = nanoseconds_per_item(report, operations)
    count = MAX_SLICE if nanoseconds <= 0 else min(MAX_SLICE, SLICE_SECONDS * 1e9 // nanoseconds)
    return max(1, int(count) // LANES * LANES or int(count))


def check_estimate(plan: Plan, calibration: Calibration, limit_seconds: float) -> float:
    """Return the estimated seconds of a plan. Raises EstimateTooLongError above the limit."""
    estimate = estimate_seconds(plan, calibration)
    if estimate > limit_seconds:
        raise EstimateTooLongError(estimate, limit_seconds, WAY_OUT)
    return estimate


def with_batch_size(plan: Plan, request: RunOptions, calibration: Calibration) -> Plan:
    """Return the plan with the request's batch size or, for `auto`, a size that fits the plan's
    items.

    Raises LookupError for a kernel that the calibration lacks.
    """
    plan = replace(plan, group_size=group_size(request, plan.stages))
    size = request.batch_size if request.batch_size != AUTO else auto_size(plan, calibration)
    plan = replace(plan, batch_size=size, group_size=min(plan.group_size, size))
    return with_parcels(plan, calibration)


def with_parcels(plan: Plan, calibration: Calibration) -> Plan:
    """Return the plan with the prediction by which a cluster's strategy makes parcels of its
    batches; for other strategies, the plan itself.
    """
    if plan.strategy not in CLUSTERS:
        return plan
    each = _Pace.of(plan, calibration).worker_seconds
    return replace(plan, batch_seconds=min(plan.batch_size, plan.item_count) * each)


def leaves_workers_idle(
    strategy: str, spec: Mapping[str, Any], counts: Sequence[int], effective_workers: int
) -> bool:
    """Return True if the task's batch size left some of its workers without a batch: no shard (of
    `counts` items each) used more than `effective_workers`.
    """
    size: int | str = spec["batch_size"]
    if isinstance(size, str) or not CAPABILITIES[StrategyName(strategy)].parallel:
        return False
    batches = max(ceil(count / size) for count in counts)
    wanted: int = min(spec["workers"], max(counts))
    return batches <= effective_workers < wanted


def auto_size(plan: Plan, calibration: Calibration) -> int:
    """Return the items of a batch, at least 1.

    The size is small enough that each worker has several batches and ends one each second, and
    large enough that batches cost little. If both cannot be met, each worker has at least a batch.
    """
    count = plan.item_count
    pace = _Pace.of(plan, calibration)
    workers = pace.workers
    small = min(BATCH_SECONDS / pace.worker_seconds, count / (BATCHES_A_WORKER * workers))
    large = max(pace.batch_cost / (OVERHEAD * pace.run_seconds), pace.least)
    in_flight = MOST_BYTES_IN_FLIGHT // item_bytes(plan)
    most = max(1, min(ceil(count / workers), in_flight // window_size(workers)))
    size = max(1, min(max(int(small), ceil(large)), most))
    size = _even(size, count, workers)
    return size if size < pace.together else size - size % pace.together


def _even(size: int, count: int, workers: int) -> int:
    """Return a size of at most `size` that gives all workers equally many batches, if few."""
    batches = ceil(count / size)
    if workers == 1 or not workers < batches < 4 * BATCHES_A_WORKER * workers:
        return size
    return ceil(count / (ceil(batches / workers) * workers))


@dataclass(frozen=True, slots=True)
class _Pace:
    """The pace of a run, in seconds."""

    workers: int
    worker_seconds: float
    """Seconds of an item in its worker."""
    run_seconds: float
    """Seconds of the run for each item, with all workers together."""
    batch_cost: float
    """Seconds of a batch beside its items."""
    least: float
    """Least items of a batch with which the strategy reaches its full speed."""
    together: int
    """Number of items that wait together; larger batches have a multiple of it."""

    @classmethod
    def of(cls, plan: Plan, machine: Calibration) -> _Pace:
        kernel = machine.kernel(plan.workload, plan.kernel)
        operations = kernels.get_workload(plan.workload).operations(plan.parameters)
        if plan.strategy in CLUSTERS:
            return cls._on_cluster(plan, machine, kernel.seconds_of_call(operations, _MANY) / _MANY)
        costs = machine.strategies[plan.strategy]
        compute = kernel.seconds_of_call(operations, _MANY) / _MANY + costs.item_seconds
        if isinstance(plan.items, GeneratedItems):
            compute += kernel.making_item_seconds
        compute = max(compute, _LEAST_ITEM_SECONDS)
        in_processes = uses_processes(plan.strategy, kernel.releases_gil)
        workers = 1
        if CAPABILITIES[plan.strategy].parallel:
            most = pool_workers(plan, machine.limits, in_processes=in_processes)
            workers = max(1, min(most, plan.item_count))
        side_by_side = in_processes or kernel.releases_gil
        cpus = min(workers, machine.usable_cpus if side_by_side else 1)
        cost = costs.full_batch_seconds

        if plan.stages and CAPABILITIES[plan.strategy].overlaps_io:
            loop = machine.loops[plan.strategy]
            waits = waits_at_once(
                plan.stages, plan.group_size, machine.waits.async_overshoot_seconds
            )
            in_flight = max(1, min(plan.io_concurrency, plan.item_count))
            on_loop = loop.item_seconds[-1] / plan.group_size
            if plan.strategy is StrategyName.ASYNC_BATCH:
                # A batch waits for its slowest item, so it has at least a wave of items.
                each = waits.longest / in_flight + on_loop + compute
                return cls(1, each, each, cost, in_flight, in_flight)
            each = max(waits.mean / in_flight, on_loop, compute / cpus)
            cost += loop.batch_seconds
            return cls(workers, each, each, cost, plan.group_size, plan.group_size)

        wait = _wait_seconds(plan, machine)
        busy = workers * compute / (wait + compute)
        each = wait + compute * max(1.0, busy / cpus)
        return cls(workers, each, each / workers, cost, plan.group_size, plan.group_size)

    @classmethod
    def _on_cluster(cls, plan: Plan, machine: Calibration, computing: float) -> _Pace:
        """`computing`: seconds of an item in the kernel on this machine."""
        costs = machine.cluster(plan.strategy)
        workers = pool_workers(plan, machine.limits, in_processes=True)
        workers = max(1, min(workers, plan.item_count))
        each = costs.slowdown * computing + costs.item_seconds + _wait_seconds(plan, machine)
        each = max(each, _LEAST_ITEM_SECONDS)
        group = plan.group_size
        return cls(workers, each, each / workers, costs.batch_seconds, group, group)


def _wait_seconds(plan: Plan, machine: Calibration) -> float:
    """Return the seconds for which a worker waits for an item, group by group."""
    wait = blocking_seconds(plan.stages, plan.group_size, machine.waits.overshoot_seconds)
    return wait / plan.group_size
