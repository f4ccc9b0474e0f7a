"""How long a kernel call takes by its size, and many batches by the number of workers."""

from __future__ import annotations

from collections.abc import Mapping

from app.runhost.calibration import KernelCosts


def call_seconds(kernel: KernelCosts, operations: Mapping[str, int], count: float) -> float:
    """Seconds of one kernel call with `count` items of so many `operations` by term.

    Between measured sizes linear in the items; above the largest, as much an item as there. A
    call that fills the lanes may take less than one with an item fewer.
    """
    seconds = kernel.call_seconds + count * kernel.item_seconds
    for term, each in operations.items():
        if each:
            costs = kernel.operation_seconds[term]
            seconds += each * _operation_seconds(kernel.sizes, costs, count)
    return seconds


def _operation_seconds(sizes: tuple[int, ...], costs: tuple[float, ...], count: float) -> float:
    """Of one operation of each of `count` items."""
    last_size, last = 0.0, 0.0
    for size, cost in zip(sizes, costs, strict=True):
        here = size * cost
        if count <= size:
            return last + (here - last) * (count - last_size) / (size - last_size)
        last_size, last = size, here
    return last + (count - last_size) * last / last_size


def makespan(batches: int, workers: int, seconds: float, last_seconds: float) -> float:
    """Until `batches` of equal length, the last of which takes `last_seconds`, are done by
    workers that each take the next as soon as they are free.
    """
    if batches == 0:
        return 0.0
    waves, rest = divmod(batches - 1, workers)
    return waves * seconds + (last_seconds if rest == 0 else max(seconds, last_seconds))
