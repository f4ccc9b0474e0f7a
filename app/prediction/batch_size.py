"""The batch size of a run whose request says `auto`. docs/model.md has the rule in formulas.

Pure: a plan and the constants of a machine give a size, always the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.prediction.stages import group_size
from hotloop.app.prediction.waiting import blocking_seconds, waits_at_once
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.schemas.options import AUTO, RunOptions
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.batching import window_size
from hotloop.app.strategies.pools import pool_workers
from hotloop.app.strategies.registry import CAPABILITIES, uses_processes

BATCHES_A_WORKER: Final = 4
"""Batches that each worker gets at least, so that none is idle for long at the end."""

BATCH_SECONDS: Final = 1.0
"""Time between the ends of two batches of a worker at most: results are stored by then."""

OVERHEAD: Final = 0.02
"""Share of a run's seconds that its batches may cost."""

MOST_IN_FLIGHT: Final = 1_000_000
"""Items of all batches in flight together: about 128 MB."""

_LEAST_ITEM_SECONDS: Final = 1e-9
"""Even an item without operations is loaded and stored."""

_MANY: Final = 1_000
"""Items of a kernel call that costs, for each of them, what a large batch costs."""


def with_batch_size(plan: Plan, request: RunOptions, calibration: Calibration) -> Plan:
    """The plan with the batch size that the request asks for, or chosen for the items it has now.

    Raises LookupError for a kernel that the calibration does not know.
    """
    plan = replace(plan, group_size=group_size(request, plan.stages))
    size = request.batch_size if request.batch_size != AUTO else auto_size(plan, calibration)
    return replace(plan, batch_size=size, group_size=min(plan.group_size, size))


def leaves_workers_idle(
    strategy: str, spec: Mapping[str, Any], counts: Sequence[int], effective_workers: int
) -> bool:
    """Whether the batch size that a task's spec asks for makes fewer batches than the workers it
    asks for, so that no shard (of `counts` items each) used more than `effective_workers`.
    """
    size: int | str = spec["batch_size"]
    if isinstance(size, str) or not CAPABILITIES[StrategyName(strategy)].parallel:
        return False
    batches = max(ceil(count / size) for count in counts)
    wanted: int = min(spec["workers"], max(counts))
    return batches <= effective_workers < wanted


def auto_size(plan: Plan, calibration: Calibration) -> int:
    """Items of a batch, at least 1.

    Small enough for several batches a worker and one each second, large enough that batches
    cost little; where both cannot be had, at least one batch for each worker.
    """
    count = plan.item_count
    pace = _Pace.of(plan, calibration)
    workers = pace.workers
    small = min(BATCH_SECONDS / pace.worker_seconds, count / (BATCHES_A_WORKER * workers))
    large = max(pace.batch_cost / (OVERHEAD * pace.run_seconds), pace.least)
    most = min(ceil(count / workers), MOST_IN_FLIGHT // window_size(workers))
    size = max(1, min(max(int(small), ceil(large)), most))
    size = _even(size, count, workers)
    return size if size < pace.together else size - size % pace.together


def _even(size: int, count: int, workers: int) -> int:
    """A size, not larger, by which every worker gets as many batches, where they are few."""
    batches = ceil(count / size)
    if workers == 1 or not workers < batches < 4 * BATCHES_A_WORKER * workers:
        return size
    return ceil(count / (ceil(batches / workers) * workers))


@dataclass(frozen=True, slots=True)
class _Pace:
    """The pace of a run. Seconds."""

    workers: int
    worker_seconds: float
    """Each item, in the worker that has it."""
    run_seconds: float
    """Each item, of the run: all workers together."""
    batch_cost: float
    """Each batch beside its items."""
    least: float
    """Items of a batch that the strategy needs to be as fast as it can."""
    together: int
    """Items that wait together: a batch has a multiple of them, where it has more."""

    @classmethod
    def of(cls, plan: Plan, machine: Calibration) -> _Pace:
        kernel = machine.kernel(plan.workload, plan.kernel)
        operations = kernels.get_workload(plan.workload).operations(plan.parameters)
        costs = machine.strategies[plan.strategy]
        compute = kernel.seconds_of_call(operations, _MANY) / _MANY + costs.item_seconds
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
                # A batch waits for its slowest item, so a wave of items is the least.
                each = waits.longest / in_flight + on_loop + compute
                return cls(1, each, each, cost, in_flight, in_flight)
            each = max(waits.mean / in_flight, on_loop, compute / cpus)
            cost += loop.batch_seconds
            return cls(workers, each, each, cost, plan.group_size, plan.group_size)

        wait = blocking_seconds(plan.stages, plan.group_size, machine.waits.overshoot_seconds)
        wait /= plan.group_size
        busy = workers * compute / (wait + compute)
        each = wait + compute * max(1.0, busy / cpus)
        return cls(workers, each, each / workers, cost, plan.group_size, plan.group_size)
