"""All ways to run something that are worth a prediction, and their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from hotloop.app.names import StrategyName
from hotloop.app.prediction.model import Prediction, predict
from hotloop.app.prediction.plans import BY_PREFERENCE
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.schemas.recommendation import Limit
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import CAPABILITIES, uses_processes

BATCH_SIZES: Final = (
    *(10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000),
    *(25_000, 50_000, 100_000, 250_000),
)
BATCHES_A_WORKER: Final = (1, 2, 4, 8)
"""Beside BATCH_SIZES: sizes that give each worker so many batches, none of them cut."""

LARGEST_BATCH: Final = 1_000_000
MOST_WORKERS: Final = 256

CONCURRENCIES: Final = (100, 250, 1_000, 2_500, 5_000, 10_000, 20_000)

TIE: Final = 0.1
"""Predictions this near to each other say nothing about who is faster: it is what they are off."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the client has chosen; None is for us to choose."""

    kernels: Sequence[str]
    strategy: StrategyName | None = None
    workers: int | None = None
    batch_size: int | None = None
    io_concurrency: int | None = None
    query_batch_size: int = 1
    """Items that a stage may be asked for at once, within a batch."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan and what is predicted for it."""

    plan: Plan
    prediction: Prediction


def candidates(plan: Plan, fixed: Fixed, calibration: Calibration) -> Iterator[Plan]:
    """Variants of a plan, each once; what a strategy makes no use of stays as it is in `plan`."""
    seen = set()
    for strategy in StrategyName:
        if fixed.strategy not in (None, strategy):
            continue
        for kernel in fixed.kernels:
            releases_gil = calibration.kernel(plan.workload, kernel).releases_gil
            for workers in _workers(plan, strategy, releases_gil, fixed, calibration):
                for batch_size in _batch_sizes(plan, strategy, workers, fixed):
                    for in_flight in _concurrencies(plan, strategy, fixed):
                        key = strategy, kernel, workers, batch_size, in_flight
                        if key in seen:
                            continue
                        seen.add(key)
                        yield replace(
                            plan,
                            strategy=strategy,
                            kernel=kernel,
                            workers=workers,
                            batch_size=batch_size,
                            io_concurrency=in_flight,
                            group_size=min(fixed.query_batch_size, batch_size),
                        )


def _workers(
    plan: Plan,
    strategy: StrategyName,
    releases_gil: bool,
    fixed: Fixed,
    calibration: Calibration,
) -> Iterable[int]:
    if fixed.workers is not None:
        return (fixed.workers,)
    if not CAPABILITIES[strategy].parallel:
        return (1,)
    in_processes = uses_processes(strategy, releases_gil)
    most = calibration.max_processes if in_processes else calibration.max_threads
    most = min(most, MOST_WORKERS, plan.item_count)
    if not plan.stages or strategy is StrategyName.HYBRID:  # workers that wait for nothing
        cpus = calibration.usable_cpus
        most = min(most, cpus if in_processes else 2 * cpus)
    powers = {2**n for n in range(9) if 2**n < most}
    return sorted(powers | {most, min(most, calibration.usable_cpus)})


def _batch_sizes(plan: Plan, strategy: StrategyName, workers: int, fixed: Fixed) -> Iterable[int]:
    if fixed.batch_size is not None:
        return (fixed.batch_size,)
    count = plan.item_count
    most = min(count, LARGEST_BATCH)
    sizes = {min(size, most) for size in BATCH_SIZES}
    sizes |= {min(most, ceil(count / (workers * batches))) for batches in BATCHES_A_WORKER}
    return sorted(sizes)


def _concurrencies(plan: Plan, strategy: StrategyName, fixed: Fixed) -> Iterable[int]:
    if fixed.io_concurrency is not None:
        return (fixed.io_concurrency,)
    if not plan.stages or strategy not in (StrategyName.ASYNC_BATCH, StrategyName.HYBRID):
        return (plan.io_concurrency,)
    return sorted({min(each, max(plan.item_count, 1)) for each in CONCURRENCIES})


def ranked(plans: Iterable[Plan], calibration: Calibration, memory_bytes: int) -> list[Choice]:
    """By predicted seconds; of those within TIE of the first of them, the one with fewer workers
    and fewer items in flight first; what needs more than `memory_bytes` last.
    """
    fitting, too_large = [], []
    for plan in plans:
        choice = Choice(plan, predict(plan, calibration))
        if choice.prediction.memory_bytes <= memory_bytes:
            fitting.append(choice)
        else:
            limited = replace(choice.prediction, limited_by=Limit.MEMORY)
            too_large.append(replace(choice, prediction=limited))
    return [*_ordered(fitting), *_ordered(too_large)]


def _ordered(choices: list[Choice]) -> Iterator[Choice]:
    by_seconds = sorted(choices, key=lambda choice: (choice.prediction.seconds, _cost(choice)))
    start = 0
    while start < len(by_seconds):
        most = by_seconds[start].prediction.seconds * (1 + TIE)
        end = start
        while end < len(by_seconds) and by_seconds[end].prediction.seconds <= most:
            end += 1
        yield from sorted(by_seconds[start:end], key=_cost)
        start = end


def _cost(choice: Choice) -> tuple[object, ...]:
    """What it takes; and in the end, so that the order is always the same, everything else."""
    plan, prediction = choice.plan, choice.prediction
    workers = 1 if plan.strategy in (StrategyName.SEQUENTIAL, StrategyName.ASYNC_BATCH) else None
    return (
        workers or plan.workers,
        plan.io_concurrency,
        prediction.seconds,
        BY_PREFERENCE.index(plan.strategy),
        plan.kernel,
        plan.batch_size,
    )
