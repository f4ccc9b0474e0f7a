"""In a child process: loads the kernels of one workload, and tells what they cost, or why not."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hotloop import kernels
from hotloop.app.workloads.describing import reason_of, text_of
from hotloop.app.workloads.measuring import kernel_costs, sampled_seconds
from hotloop.app.workloads.sandbox import COMPUTED, Tell
from hotloop.app.workloads.timing import KernelTimer
from hotloop.kernels import InvalidInputError, WorkloadSource
from hotloop.kernels.functions.derive import one_line


@dataclass(frozen=True, slots=True)
class Order:
    """The kernels to examine, with these parameters."""

    source: WorkloadSource
    kernels: tuple[str, ...]
    parameters: Mapping[str, Any]
    cpus: int
    """The CPUs that contention is measured with."""
    only_sample: bool
    """True to measure nothing but the seconds of an item with the parameters."""

    @classmethod
    def from_json(cls, order: Mapping[str, Any]) -> Order:
        return cls(
            WorkloadSource(**order["source"]),
            tuple(order["kernels"]),
            order["parameters"],
            order["cpus"],
            order["only_sample"],
        )


def examine_kernels(order: Order, tell: Tell) -> None:
    """Examine one kernel after another. Tells of each what `step` begins, and then its costs, or
    the reason why it is not available.
    """
    try:
        workload = kernels.use(order.source)
    except BaseException as error:  # SystemExit, too
        traceback.print_exception(error)
        tell(unusable=reason_of(error))
        return
    for name in order.kernels:
        tell(kernel=name, step="was loaded")
        started = time.perf_counter()
        try:
            kernel = kernels.get_kernel(workload.name, name)
            tell(kernel=name, step="was compiled")
            kernel.warm_up()
            warm_up_seconds = time.perf_counter() - started
            tell(kernel=name, step=COMPUTED)
            parameters = workload.resolve_parameters(order.parameters)
            if order.only_sample:
                timer = KernelTimer(kernel)
                seconds = sampled_seconds(timer, parameters, timer.call_seconds(parameters))
                tell(kernel=name, sampled=seconds)
                continue
            costs = kernel_costs(kernel, parameters, order.cpus)
            tell(kernel=name, costs=asdict(costs), warm_up_seconds=warm_up_seconds)
        except BaseException as error:
            traceback.print_exception(error)
            is_certain = not isinstance(error, MemoryError)
            tell(kernel=name, reason=_reason(error), is_certain=is_certain)


def _reason(error: BaseException) -> str:
    if isinstance(error, kernels.KernelUnavailableError):
        return error.reason
    if isinstance(error, InvalidInputError):
        return f"no items can be made up for it: {error}; give the column a `sample`"
    if "\n" in text_of(error):  # as a compiler says it, with the place among the words
        return one_line(error)
    return reason_of(error)
