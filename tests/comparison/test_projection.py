"""Smaller plans of the same structure, and projections from them."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log10

import pytest

from hotloop.app.comparison.intervals import Interval
from hotloop.app.comparison.projection import (
    DEAREST,
    ERROR_PER_DECADE,
    ONE_ITEM_ERROR,
    sized,
    sizes_within,
    widened,
)
from hotloop.app.comparison.record import Size
from hotloop.app.names import StrategyName
from hotloop.app.prediction.model import estimate_seconds
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import Plan
from tests.fixtures.calibrations import ideal
from tests.fixtures.made_up import sample

REPORTS = tuple(
    KernelReport("loops", kernel, True, None, gil, None, 0.0, {"loop": ns, "nested": ns})
    for kernel, gil, ns in (("python", False, 90.0), ("cython", True, 1.0))
)
MACHINE = ideal(REPORTS)
SECOND = (SimulatedStage("db", 1.0, 1.0), SimulatedStage("cache", 0.001, 0.01))
PARALLEL = (
    StrategyName.THREADING,
    StrategyName.MULTIPROCESSING,
    StrategyName.CONCURRENT_FUTURES,
)


def estimate(plan: Plan) -> float:
    return estimate_seconds(plan, MACHINE)


def plan_of(
    strategy: StrategyName,
    items: int = 1_000,
    *,
    stages: tuple[SimulatedStage, ...] = SECOND,
    batch_size: int = 5_000,
    kernel: str = "cython",
    io_concurrency: int = 1_000,
) -> Plan:
    return Plan(
        workload="loops",
        kernel=kernel,
        strategy=strategy,
        items=GeneratedItems(items),
        stages=stages,
        parameters={"cpu_iterations": 20_000, "outer_iterations": 100, "inner_iterations": 200},
        batch_size=batch_size,
        workers=4,
        io_concurrency=io_concurrency,
    )


def batches(items: int, size: Size) -> int:
    return ceil(items / size.batch_size)


@pytest.mark.parametrize("strategy", sorted(StrategyName))
def test_cell_that_fits_is_measured_whole(strategy: StrategyName) -> None:
    plan = plan_of(strategy)
    (size,) = sizes_within(plan, estimate(plan), estimate)
    assert (size.items, size.batch_size, size.estimate) == (1_000, 5_000, estimate(plan))
    assert sized(plan, size) is plan


@pytest.mark.parametrize("strategy", sorted(StrategyName))
@pytest.mark.parametrize("seconds", [0.0, 0.5, 3.0, 30.0])
@pytest.mark.parametrize("items", [1, 7, 1_000, 12_345, 1_000_000])
@pytest.mark.parametrize("kernel", ["cython", "python"])
def test_size_has_the_estimate_of_its_plan(
    strategy: StrategyName, seconds: float, items: int, kernel: str
) -> None:
    plan = plan_of(strategy, items, kernel=kernel)
    sizes = sizes_within(plan, seconds, estimate)
    assert 1 <= len(sizes) <= 2
    for size in sizes:
        small = sized(plan, size)
        assert 1 <= small.item_count == size.items <= items
        assert size.estimate == estimate(small)
        assert size.estimate / size.items <= DEAREST * estimate(plan) / items * 1.000001
    assert sizes == tuple(sorted(sizes, key=lambda s: -s.items))


@pytest.mark.parametrize("strategy", sorted(PARALLEL))
@pytest.mark.parametrize("items", [1_000, 5_000, 12_000, 20_000, 39_000])
def test_few_batches_stay_as_many(strategy: StrategyName, items: int) -> None:
    """1,000 items in batches of 5,000 are one batch: one worker, in the smaller plan as well."""
    plan = plan_of(strategy, items)
    for size in sizes_within(plan, 20.0, estimate):
        assert size.items < items
        assert batches(size.items, size) == ceil(items / 5_000)


@pytest.mark.parametrize("strategy", sorted(PARALLEL))
def test_every_worker_keeps_two_of_many_batches(strategy: StrategyName) -> None:
    plan = plan_of(strategy, 1_000_000)
    for size in sizes_within(plan, 20.0, estimate):
        assert batches(size.items, size) == 8
        assert size.items % size.batch_size == 0


@pytest.mark.parametrize("strategy", sorted(PARALLEL))
def test_many_batches_keep_their_size_where_they_can(strategy: StrategyName) -> None:
    plan = plan_of(strategy, 1_000_000, stages=())
    largest = sizes_within(plan, estimate(plan) / 3, estimate)[0]
    assert largest.batch_size == 5_000
    assert batches(largest.items, largest) % 4 == 0


@pytest.mark.parametrize("strategy", [StrategyName.ASYNC_BATCH, StrategyName.HYBRID])
def test_waves_stay_whole(strategy: StrategyName) -> None:
    plan = plan_of(strategy, 100_000, io_concurrency=500)
    for size in sizes_within(plan, 30.0, estimate):
        assert size.items % 500 == 0


@pytest.mark.parametrize("strategy", [StrategyName.ASYNC_BATCH, StrategyName.HYBRID])
def test_single_wave_that_hardly_gets_shorter_is_measured_whole(strategy: StrategyName) -> None:
    (size,) = sizes_within(plan_of(strategy), 0.0, estimate)
    assert size.items == 1_000


def test_single_wave_keeps_enough_items_to_show_what_they_compute() -> None:
    """A second of waiting for one item would say nothing of the 3.6 s that 1,000 compute."""
    sizes = sizes_within(plan_of(StrategyName.ASYNC_BATCH, kernel="python"), 0.0, estimate)
    assert min(size.items for size in sizes) > 100


@pytest.mark.parametrize("strategy", sorted(StrategyName))
def test_groups_are_no_larger_than_batches(strategy: StrategyName) -> None:
    plan = replace(plan_of(strategy, 1_000_000), group_size=500)
    for size in sizes_within(plan, 3.0, estimate):
        assert sized(plan, size).group_size <= size.batch_size


def test_interval_grows_with_the_distance() -> None:
    found = Interval(1_000.0, 990.0, 1_010.0)
    for items in (500, 10, 1):
        samples = [sample(1.0, items=items, scale=1_000 / items) for _ in range(3)]
        error = ERROR_PER_DECADE * log10(1_000 / items)
        if items == 1:
            assert error < ONE_ITEM_ERROR
            error = ONE_ITEM_ERROR
        wide = widened(found, samples, 1_000)
        assert wide.median == found.median
        assert wide.low == pytest.approx(990 / (1 + error))
        assert wide.high == pytest.approx(1_010 * (1 + error))


def test_sizes_that_disagree_widen_the_interval() -> None:
    samples = [sample(1.0, items=500, scale=2.0), sample(0.9, items=250, scale=4.0)]
    wide = widened(Interval(2.8, 2.0, 3.6), samples, 1_000)
    assert wide.low == pytest.approx(2.0 / 1.8)
    assert wide.high == pytest.approx(3.6 * 1.8)
