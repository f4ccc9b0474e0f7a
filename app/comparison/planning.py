"""The plan of a comparison: its cells, and the number of items that each measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hotloop import kernels
from hotloop.app.comparison.loop import OVERHEAD_SECONDS
from hotloop.app.comparison.projection import Estimate, full_size, sizes_within
from hotloop.app.comparison.record import BACKGROUND, CellId, CellRecord, ComparisonRecord
from hotloop.app.errors import InvalidRequestError
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.memory import MemoryBudget, uses_processes
from hotloop.app.prediction.model import FORK_SECONDS
from hotloop.app.prediction.plan import (
    BY_PREFERENCE,
    check_workload,
    fastest_kernel,
    make_plan,
    unknown_kernel,
)
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.options import AUTO
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items
from hotloop.app.strategies.base import Plan

KEPT_BACK: Final = 0.1
"""Share of the budget that is reserved, because estimates are rough."""

POOL_SECONDS: Final = 0.5
"""Seconds to start the process from which workers are forked, without its kernel."""


def resolve(request: CompareRequest, reports: Sequence[KernelReport]) -> CompareRequest:
    """Return the request with `kernels` filled in and kernel `auto` resolved among them. Raises
    InvalidRequestError for a workload or kernel that does not exist or is not available.
    """
    check_workload(request.workload)
    known = kernels.known_kernels(request.workload)
    for name in request.kernels or ():
        if name not in known:
            raise unknown_kernel("kernels", request.workload, name, known)
    compared = request.kernels or known
    kernel = request.kernel
    if kernel == AUTO:
        candidates = [r for r in reports if r.kernel in compared]
        if not any(r.workload == request.workload and r.available for r in candidates):
            reasons = "; ".join(f"{r.kernel}: {r.reason}" for r in candidates)
            raise InvalidRequestError("kernels", f"none of the kernels is available ({reasons})")
        kernel = fastest_kernel(request.workload, request.parameters, candidates)
    elif kernel not in known:
        raise unknown_kernel("kernel", request.workload, kernel, known)
    return request.model_copy(update={"kernels": compared, "kernel": kernel})


def cell_ids(request: CompareRequest, offered: Sequence[StrategyName]) -> list[CellId]:
    """Return the cells of a resolved request, in display order; `offered` are the strategies of the
    service.
    """
    strategies = request.strategies or offered
    ids = [CellId(s.value, k) for s in strategies for k in request.kernels or ()]
    if request.strategies is None:
        ids.append(CellId(BACKGROUND, request.kernel))
    return ids


def make_plans(
    request: CompareRequest,
    items: Items,
    reports: Sequence[KernelReport],
    calibration: Calibration,
    settings: Settings,
    estimate: Estimate,
) -> tuple[dict[CellId, Plan], dict[CellId, str]]:
    """Return the plans of the cells that can run, and the reasons why other cells cannot. Raises
    the errors of `make_plan` that concern all cells.
    """
    plans: dict[CellId, Plan] = {}
    reasons: dict[CellId, str] = {}
    unavailable = {
        r.kernel: r.reason or "it is not available here"
        for r in reports
        if r.workload == request.workload and not r.available
    }
    for cell in cell_ids(request, settings.offered_strategies):
        if cell.kernel in unavailable:
            reasons[cell] = unavailable[cell.kernel]
            continue
        one = request.model_copy(update={"kernel": cell.kernel})
        local = tuple(name for name in BY_PREFERENCE if name not in CLUSTERS)
        names = local if cell.strategy == BACKGROUND else (StrategyName(cell.strategy),)
        made = [make_plan(name, one, items, reports, calibration, settings) for name in names]
        plans[cell] = min(made, key=estimate)
    return plans, reasons


def plan_record(
    request: CompareRequest,
    offered: Sequence[StrategyName],
    plans: Mapping[CellId, Plan],
    reasons: Mapping[CellId, str],
    estimate: Estimate,
    memory: MemoryBudget,
    setup_seconds: Mapping[CellId, float],
) -> ComparisonRecord:
    """Return a comparison's record before its first measurement. `memory` bounds each cell;
    `setup_seconds` comes from `setup_seconds_of`.
    """
    record = ComparisonRecord(
        items_count=request.total_items,
        workers=request.workers,
        rounds=request.rounds,
        budget_seconds=request.budget_seconds,
        setup_budget_seconds=request.setup_budget_seconds,
        exact=request.exact,
    )
    for cell in cell_ids(request, offered):
        reason = reasons.get(cell) or _too_large(plans[cell], memory)
        if reason is not None:
            record.cells.append(CellRecord(cell, (), 0.0, reason=reason))
            continue
        full = full_size(plans[cell], estimate)
        setup = setup_seconds.get(cell, 0.0)
        record.cells.append(CellRecord(cell, (full,), full.estimate, setup, full.batch_size))
    if not request.exact:
        _fit(record, plans, estimate)
    return record


def setup_seconds_of(
    plans: Mapping[CellId, Plan], reports: Sequence[KernelReport], calibration: Calibration
) -> dict[CellId, float]:
    """Return the expected seconds to start a pool of processes, or to connect to a cluster, of each
    cell that needs it. A kernel is compiled once, before workers are forked.
    """
    warm_up = {(r.workload, r.kernel): r.warm_up_seconds for r in reports}
    return {
        cell: (
            calibration.cluster(plan.strategy).setup_seconds
            if plan.strategy in CLUSTERS
            else POOL_SECONDS + warm_up[plan.workload, plan.kernel] + plan.workers * FORK_SECONDS
        )
        for cell, plan in plans.items()
        if uses_processes(plan)
    }


def _fit(record: ComparisonRecord, plans: Mapping[CellId, Plan], estimate: Estimate) -> None:
    """Set each cell's sizes to those that its share of the budget allows."""
    cells = [cell for cell in record.cells if not cell.is_skipped]
    times = record.rounds + 1
    fixed = len(cells) * times * OVERHEAD_SECONDS
    budget = (1 - KEPT_BACK) * record.budget_seconds - fixed
    # Reserve each cell's minimum first; share out only the rest.
    least = [min(s.estimate for s in sizes_within(plans[c.cell], 0.0, estimate)) for c in cells]
    spare = shares(
        budget - times * sum(least),
        [times * max(0.0, c.full_estimate - low) for c, low in zip(cells, least, strict=True)],
    )
    for cell, low, more in zip(cells, least, spare, strict=True):
        # Slightly more, because sums of shares are not exact.
        seconds = (low + more / times) * (1 + 1e-9)
        cell.sizes = sizes_within(plans[cell.cell], seconds, estimate)


def shares(budget: float, costs: Sequence[float]) -> list[float]:
    """Share the budget among costs: each gets its cost, or at most an equal part of the remainder
    that smaller costs leave (max-min fairness).
    """
    given = [0.0] * len(costs)
    left, open_count = max(0.0, budget), len(costs)
    for index in sorted(range(len(costs)), key=costs.__getitem__):
        given[index] = min(costs[index], left / open_count)
        left -= given[index]
        open_count -= 1
    return given


def exact_seconds(record: ComparisonRecord) -> float:
    """Return the least seconds of an exact comparison: the warm-up of every cell and one round."""
    return sum(2 * c.full_estimate + c.setup_estimate for c in record.cells if not c.is_skipped)


def _too_large(plan: Plan, memory: MemoryBudget) -> str | None:
    if memory.fits(plan):
        return None
    return (
        f"it needs about {memory.needed(plan) >> 20:,} MiB of memory and may have "
        f"{memory.run_bytes >> 20:,} MiB; lower workers or batch_size"
    )
