"""Which cells there are, and on how many items each is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from hotloop import kernels
from hotloop.app.comparison.loop import OVERHEAD_SECONDS
from hotloop.app.comparison.projection import Estimate, full_size, sizes_within
from hotloop.app.comparison.record import BACKGROUND, CellId, CellRecord, ComparisonRecord
from hotloop.app.comparison.schedule import shares
from hotloop.app.errors import InvalidRequestError
from hotloop.app.names import StrategyName
from hotloop.app.prediction.memory import MemoryBudget, uses_processes
from hotloop.app.prediction.model import FORK_SECONDS
from hotloop.app.prediction.plans import BY_PREFERENCE, make_plan
from hotloop.app.prediction.reported_costs import nanoseconds_per_item
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.options import AUTO
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items
from hotloop.app.strategies.base import Plan

KEPT_BACK: Final = 0.1
"""Share of the budget that is not planned with: estimates are rough."""

POOL_SECONDS: Final = 0.5
"""Expected for the process that workers are forked from, without its kernel."""


def resolve(request: CompareRequest, reports: Sequence[KernelReport]) -> CompareRequest:
    """The request with its defaults filled in: `kernels`, and `kernel` as `auto` finds it among
    them. Raises InvalidRequestError for a workload or kernel that does not exist or is not
    available.
    """
    if request.workload not in kernels.workloads():
        raise InvalidRequestError(
            "workload",
            f"{request.workload!r} is unknown; choose from: {', '.join(kernels.workloads())}",
        )
    known = kernels.known_kernels(request.workload)
    for name in request.kernels or ():
        if name not in known:
            raise InvalidRequestError(
                "kernels",
                f"{request.workload} has no kernel {name!r}; choose from: {', '.join(known)}",
            )
    compared = request.kernels or known
    kernel = request.kernel
    if kernel == AUTO:
        kernel = _fastest(request, [r for r in reports if r.kernel in compared])
    elif kernel not in known:
        raise InvalidRequestError(
            "kernel",
            f"{request.workload} has no kernel {kernel!r}; choose from: {', '.join(known)}",
        )
    return request.model_copy(update={"kernels": compared, "kernel": kernel})


def _fastest(request: CompareRequest, reports: Sequence[KernelReport]) -> str:
    available = [r for r in reports if r.workload == request.workload and r.available]
    if not available:
        reasons = "; ".join(f"{r.kernel}: {r.reason}" for r in reports)
        raise InvalidRequestError("kernels", f"none of them is available here ({reasons})")
    operations = kernels.get_workload(request.workload).operations(request.parameters)
    return min(available, key=lambda r: nanoseconds_per_item(r, operations)).kernel


def cell_ids(request: CompareRequest) -> list[CellId]:
    """In the order in which they are shown; the request is resolved."""
    strategies = request.strategies or tuple(StrategyName)
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
    """The plan of every cell that can run, and the reasons of those that cannot. Raises what
    make_plan raises for what concerns all cells.
    """
    plans: dict[CellId, Plan] = {}
    reasons: dict[CellId, str] = {}
    unavailable = {
        r.kernel: r.reason or "it is not available here"
        for r in reports
        if r.workload == request.workload and not r.available
    }
    for cell in cell_ids(request):
        if cell.kernel in unavailable:
            reasons[cell] = unavailable[cell.kernel]
            continue
        one = request.model_copy(update={"kernel": cell.kernel})
        names = BY_PREFERENCE if cell.strategy == BACKGROUND else (StrategyName(cell.strategy),)
        made = [make_plan(name, one, items, reports, calibration, settings) for name in names]
        plans[cell] = min(made, key=estimate)
    return plans, reasons


def plan_record(
    request: CompareRequest,
    plans: Mapping[CellId, Plan],
    reasons: Mapping[CellId, str],
    estimate: Estimate,
    memory: MemoryBudget,
    setup_seconds: Mapping[str, float],
) -> ComparisonRecord:
    """A comparison before its first measurement; `memory` is what a cell may need;
    `setup_seconds`, by kernel, are those of `pool_seconds`.
    """
    record = ComparisonRecord(
        items_count=request.total_items,
        workers=request.workers,
        rounds=request.rounds,
        budget_seconds=request.budget_seconds,
        setup_budget_seconds=request.setup_budget_seconds,
        exact=request.exact,
    )
    for cell in cell_ids(request):
        reason = reasons.get(cell) or _too_large(plans[cell], memory)
        if reason is not None:
            record.cells.append(CellRecord(cell, (), 0.0, reason=reason))
            continue
        full = full_size(plans[cell], estimate)
        setup = setup_seconds.get(cell.kernel, 0.0) if uses_processes(plans[cell]) else 0.0
        record.cells.append(CellRecord(cell, (full,), full.estimate, setup, full.batch_size))
    if not request.exact:
        _fit(record, plans, estimate)
    return record


def pool_seconds(reports: Sequence[KernelReport], workload: str, workers: int) -> dict[str, float]:
    """By kernel, how long a pool of processes is expected to take to start: the kernel is compiled
    once, before workers are forked.
    """
    return {
        r.kernel: POOL_SECONDS + r.warm_up_seconds + workers * FORK_SECONDS
        for r in reports
        if r.workload == workload
    }


def _fit(record: ComparisonRecord, plans: Mapping[CellId, Plan], estimate: Estimate) -> None:
    """Give every cell the sizes for which its part of the budget suffices."""
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
        # A hair more, as sums of shares are not exact.
        seconds = (low + more / times) * (1 + 1e-9)
        cell.sizes = sizes_within(plans[cell.cell], seconds, estimate)


def exact_seconds(record: ComparisonRecord) -> float:
    """The least that an exact comparison takes: every cell's warm-up and one round."""
    return sum(2 * c.full_estimate + c.setup_estimate for c in record.cells if not c.is_skipped)


def _too_large(plan: Plan, memory: MemoryBudget) -> str | None:
    if memory.fits(plan):
        return None
    return (
        f"it needs about {memory.needed(plan) >> 20:,} MiB of memory and may have "
        f"{memory.run_bytes >> 20:,} MiB; lower workers or batch_size"
    )
