"""What no choice of strategy, workers or batch size can beat."""

from __future__ import annotations

from hotloop import kernels
from hotloop.app.prediction.waiting import waits_at_once
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.strategies.base import Plan


def lower_bound_seconds(plan: Plan, calibration: Calibration, most_in_flight: int) -> float:
    """No choice for this work can take less: max(n × t_io ÷ C, one wait, n × t_cpu ÷ p) with C
    items in flight at most, p CPUs, and what an item costs the plan's kernel at its best.
    """
    count = plan.item_count
    waits = waits_at_once(plan.stages, 1, 0.0)
    kernel = calibration.kernel(plan.workload, plan.kernel)
    operations = kernels.get_workload(plan.workload).operations(plan.parameters)
    item = sum(
        each * min(kernel.operation_seconds[term]) for term, each in operations.items() if each
    )
    io = max(waits.mean if count else 0.0, count * waits.mean / most_in_flight)
    return max(io, count * item / calibration.usable_cpus)
