"""Measuring a slow cell on fewer items: a smaller plan of the same structure, and its projection.

Seconds are projected to all items by the ratio of the two plans' estimates. That is valid only if
the smaller plan waits and computes in the same way: with as many batches, as many workers, and
whole waves of `io_concurrency` items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import ceil, log10
from statistics import median
from typing import Final

from hotloop.app.comparison.intervals import Interval
from hotloop.app.comparison.record import Sample, Size
from hotloop.app.names import StrategyName
from hotloop.app.strategies.base import Plan

Estimate = Callable[[Plan], float]
"""Function that returns the estimated seconds of a plan."""

_STEP: Final = 0.8
"""Factor from one tried number of items to the next."""

DEAREST: Final = 2.0
"""Highest estimate of an item in a smaller plan, as a multiple of its cost in the whole plan."""

WORTHWHILE: Final = 1.5
"""Least speedup of a smaller plan; with less, the whole plan is measured."""

ERROR_PER_DECADE: Final = 0.05
"""Least assumed error of a projection to ten times as many items, as a share: estimates leave out
costs (start, messages, caches) that differ between few items and many."""

ONE_ITEM_ERROR: Final = 0.25
"""Least assumed error of a projection from one item, in which nothing repeats."""


def sized(plan: Plan, size: Size) -> Plan:
    """Return the plan cut to the first items, as `size` says."""
    if size.items == plan.item_count and size.batch_size == plan.batch_size:
        return plan
    return replace(
        plan,
        ranges=((0, size.items),),
        batch_size=size.batch_size,
        batch_seconds=plan.batch_seconds * size.batch_size / plan.batch_size,
        group_size=min(plan.group_size, size.batch_size),
    )


def full_size(plan: Plan, estimate: Estimate) -> Size:
    """Return the size of the whole plan."""
    return Size(plan.item_count, plan.batch_size, estimate(plan))


def sizes_within(plan: Plan, seconds: float, estimate: Estimate) -> tuple[Size, ...]:
    """Return the sizes whose rounds are estimated at no more than `seconds`: all items if they fit,
    else two smaller sizes of the same structure, or only the smallest.
    """
    full = full_size(plan, estimate)
    if full.estimate <= seconds:
        return (full,)
    found = [size for size in _smaller(plan, estimate) if _is_like(size, full)]
    if not found or found[-1].estimate * WORTHWHILE > full.estimate:
        return (full,)
    fitting = [size for size in found if size.estimate <= seconds] or found[-1:]
    largest = fitting[0]
    half = [size for size in fitting if size.items <= largest.items / 2]
    return (largest, *half[:1])


def _is_like(size: Size, full: Size) -> bool:
    """Return True if an item costs about as much as in the whole plan. One item of a single wave
    that waits for a second would not show how long the other items compute.
    """
    return size.estimate * full.items <= DEAREST * full.estimate * size.items


def _smaller(plan: Plan, estimate: Estimate) -> Iterator[Size]:
    """Yield ever smaller sizes with the plan's structure, each once."""
    seen = {plan.item_count}
    target = float(plan.item_count)
    while target > 1:
        target *= _STEP
        items, batch_size = _cut(plan, max(1, int(target)))
        if items not in seen and items < plan.item_count:
            seen.add(items)
            size = Size(items, batch_size, 0.0)
            yield replace(size, estimate=estimate(sized(plan, size)))


def _cut(plan: Plan, target: int) -> tuple[int, int]:
    """Return the items and the batch size of a smaller plan with about `target` items."""
    if plan.strategy is StrategyName.SEQUENTIAL:
        return target, plan.batch_size
    if plan.strategy is StrategyName.ASYNC_BATCH:
        if target >= plan.batch_size:
            return target - target % plan.batch_size, plan.batch_size
        return _whole_waves(plan, target), plan.batch_size
    if plan.strategy is StrategyName.HYBRID:
        target = _whole_waves(plan, target)
        items, batch_size = _same_batches(plan, target)
        # Whole waves matter more than a last batch that is as full as in the whole plan.
        count = ceil(items / batch_size)
        return target, batch_size if items == target else max(1, ceil(target / count))
    return _same_batches(plan, target)


def _whole_waves(plan: Plan, target: int) -> int:
    """Return at most `target` items in whole waves, or `target` if there is a single wave."""
    in_flight = max(1, plan.io_concurrency // plan.group_size) * plan.group_size
    if not plan.stages or target < in_flight or plan.item_count <= in_flight:
        return target
    return target - target % in_flight


def _same_batches(plan: Plan, target: int) -> tuple[int, int]:
    """Keep the batch size while each worker gets two batches; then use that many smaller batches;
    and at last, with batches of one item, one batch for each worker.
    """
    count = ceil(plan.item_count / plan.batch_size)
    workers = min(plan.workers, count)
    if count > 2 * workers and target >= 2 * workers * plan.batch_size:
        kept = target // plan.batch_size
        return (kept - kept % workers) * plan.batch_size, plan.batch_size
    if count > 2 * workers:
        fewer = 2 * workers if target >= 2 * workers else workers
        batch_size = max(1, target // fewer)
        return fewer * batch_size, batch_size
    if count == 1:
        return target, plan.batch_size
    batch_size = max(1, round(plan.batch_size * target / plan.item_count))
    last = plan.item_count - (count - 1) * plan.batch_size
    part = max(1, min(batch_size, round(last * target / plan.item_count)))
    return (count - 1) * batch_size + part, batch_size


def widened(interval: Interval, samples: Sequence[Sample], all_items: int) -> Interval:
    """Return the interval of a projection: its rounds' interval, widened by the disagreement of its
    sizes or by the likely error for its distance, whichever is more.
    """
    by_items: dict[int, list[float]] = {}
    for sample in samples:
        by_items.setdefault(sample.items, []).append(sample.full_seconds)
    medians = [median(values) for values in by_items.values()]
    disagreement = max(medians) / min(medians) - 1 if min(medians) > 0 else 0.0
    scale = all_items / min(sample.items for sample in samples)
    error = max(disagreement, ERROR_PER_DECADE * max(0.0, log10(max(scale, 1.0))))
    if 1 in by_items:
        error = max(error, ONE_ITEM_ERROR)
    return Interval(interval.median, interval.low / (1 + error), interval.high * (1 + error))
