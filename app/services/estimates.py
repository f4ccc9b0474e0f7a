"""How long a run will take, roughly: enough to refuse a synchronous one that takes too long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import kernels
from app.names import StrategyName
from app.runhost.messages import KernelReport
from app.strategies.base import Plan


def kernel_seconds(plan: Plan, reports: Sequence[KernelReport]) -> float:
    """Seconds of kernel time for one item, from what a run host measured at its start."""
    operations = kernels.get_workload(plan.workload).operations(plan.parameters)
    for report in reports:
        if (report.workload, report.kernel) == (plan.workload, plan.kernel):
            return nanoseconds_per_item(report, operations) / 1e9
    raise LookupError(f"no report on {plan.workload} × {plan.kernel}")


def nanoseconds_per_item(report: KernelReport, operations: Mapping[str, int]) -> float:
    """`operations` by cost term, as `Workload.operations` gives them."""
    return sum(report.ns_per_operation[term] * count for term, count in operations.items())


def estimate_seconds(plan: Plan, reports: Sequence[KernelReport], usable_cpus: int) -> float:
    """Seconds from start to end, set-up and overhead left out.

    With n items, b of them a batch, w workers, t_call seconds for a call of all stages, t_cpu
    seconds an item, g items a group, C = io_concurrency ÷ g groups in flight and p = CPUs that the
    workers can keep busy (1 for threads whose kernel holds the GIL); t_io = t_call ÷ g, or
    t_call for stages that wait for each item alone:
        sequential                          n × (t_call + t_cpu)
        threading, multiprocessing,
        concurrent-futures                  max(n × (t_io + t_cpu) / w, n × t_cpu / p)
        async-batch                         n/b × ⌈b/g/C⌉ × t_call + n × t_cpu
        hybrid                              max(⌈n/g/C⌉ × t_call, n × t_cpu / p)
    """
    count = plan.item_count
    if count == 0:
        return 0.0
    call = sum(stage.seconds_per_call for stage in plan.stages)
    io = sum(
        stage.seconds_per_call / (plan.group_size if stage.batched else 1) for stage in plan.stages
    )
    in_flight = max(1, plan.io_concurrency // plan.group_size) * plan.group_size
    cpu = kernel_seconds(plan, reports)
    workers = min(plan.workers, -(-count // plan.batch_size))
    releases_gil = any(r.releases_gil for r in reports if r.kernel == plan.kernel)
    match plan.strategy:
        case StrategyName.SEQUENTIAL:
            return count * (call + cpu)
        case StrategyName.ASYNC_BATCH:
            batch = min(plan.batch_size, count)
            waves = -(-batch // in_flight)
            return count / batch * waves * call + count * cpu
        case StrategyName.HYBRID:
            busy = min(workers, usable_cpus)
            return max(-(-count // in_flight) * call, count * cpu / busy)
        case StrategyName.THREADING:
            busy = min(workers, usable_cpus) if releases_gil else 1
        case StrategyName.MULTIPROCESSING | StrategyName.CONCURRENT_FUTURES:
            busy = min(workers, usable_cpus)
    return max(count * (io + cpu) / workers, count * cpu / busy)
