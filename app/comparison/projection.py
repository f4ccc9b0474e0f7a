"""Measuring a slow cell on fewer items: a smaller plan of the same structure, and its projection.

Seconds are projected to all items by the ratio of the estimates of the two plans. That is worth
something only if the smaller plan waits and computes in the same way: as many batches for as many
workers, whole waves of `io_concurrency` items.
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
"""Returns the estimated seconds of a plan."""

_STEP: Final = 0.8
"""Factor from one number of items that is tried to the next."""

DEAREST: Final = 2.0
"""An item of a smaller plan may be estimated at this many times what it costs in the whole."""

WORTHWHILE: Final = 1.5
"""A smaller plan must be at least so many times as fast as the whole, or the whole is measured."""

ERROR_PER_DECADE: Final = 0.05
"""A projection to ten times as many items is taken to be wrong by this share at least: the estimate
leaves out costs (start, messages, caches) that differ between few items and many."""

ONE_ITEM_ERROR: Final = 0.25
"""The same for a projection from one item, in which nothing repeats."""


def sized(plan: Plan, size: Size) -> Plan:
    """The plan for the first items only."""
    if size.items == plan.item_count and size.batch_size == plan.batch_size:
        return plan
    return replace(
        plan,
        ranges=((0, size.items),),
        batch_size=size.batch_size,
        group_size=min(plan.group_size, size.batch_size),
    )


def full_size(plan: Plan, estimate: Estimate) -> Size:
    """The size of the whole plan."""
    return Size(plan.item_count, plan.batch_size, estimate(plan))


def sizes_within(plan: Plan, seconds: float, estimate: Estimate) -> tuple[Size, ...]:
    """The sizes to measure, so that a round is estimated at no more than `seconds`: all items if
    that suffices for them, else two smaller sizes of the same structure, or only the smallest.
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
    """True if an item costs about as much as among all of them: one item of a single wave that
    waits for a second would not show how long the others compute.
    """
    return size.estimate * full.items <= DEAREST * full.estimate * size.items


def _smaller(plan: Plan, estimate: Estimate) -> Iterator[Size]:
    """Ever smaller sizes with the plan's structure, each once."""
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
    """The items and the batch size of a smaller plan with about `target` items."""
    if plan.strategy is StrategyName.SEQUENTIAL:
        return target, plan.batch_size
    if plan.strategy is StrategyName.ASYNC_BATCH:
        if target >= plan.batch_size:
            return target - target % plan.batch_size, plan.batch_size
        return _whole_waves(plan, target), plan.batch_size
    if plan.strategy is StrategyName.HYBRID:
        target = _whole_waves(plan, target)
        items, batch_size = _same_batches(plan, target)
        # Whole waves count more than a last batch that is as full as in the whole.
        count = ceil(items / batch_size)
        return target, batch_size if items == target else max(1, ceil(target / count))
    return _same_batches(plan, target)


def _whole_waves(plan: Plan, target: int) -> int:
    """At most `target` items in whole waves; a single wave with fewer items."""
    in_flight = max(1, plan.io_concurrency // plan.group_size) * plan.group_size
    if not plan.stages or target < in_flight or plan.item_count <= in_flight:
        return target
    return target - target % in_flight


def _same_batches(plan: Plan, target: int) -> tuple[int, int]:
    """Batches of the same size while every worker gets two; then as many smaller batches; and with
    batches of one item, one for each worker.
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
    """The interval of a projection: that of its rounds, widened by the disagreement of its sizes or
    by the likely error for its distance, whichever is more.
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
