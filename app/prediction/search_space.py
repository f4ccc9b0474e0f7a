"""The plans that are worth a prediction, their ranking, and a lower bound for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Final

from hotloop import kernels
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.model import Prediction, predict
from hotloop.app.prediction.plan import BY_PREFERENCE, MOST_WORKERS, with_parcels
from hotloop.app.prediction.waiting import waits_at_once
from hotloop.app.runhost.calibrate.constants import Calibration
from hotloop.app.schemas.recommendation import Limit
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.registry import CAPABILITIES, uses_processes

BATCH_SIZES: Final = (
    *(10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000),
    *(25_000, 50_000, 100_000, 250_000),
)
BATCHES_A_WORKER: Final = (1, 2, 4, 8)
"""Numbers of batches per worker from which more sizes are derived, besides BATCH_SIZES."""

LARGEST_BATCH: Final = 1_000_000

CONCURRENCIES: Final = (100, 250, 1_000, 2_500, 5_000, 10_000, 20_000)

TIE: Final = 0.1
"""Predictions within 10 % count as ties: that is the typical error of the model."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The choices that the client has made; None leaves a choice open."""

    kernels: Sequence[str]
    strategy: StrategyName | None = None
    workers: int | None = None
    batch_size: int | None = None
    io_concurrency: int | None = None
    query_batch_size: int = 1
    """Most items of a batch that one request to a stage may ask for."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A plan and its prediction."""

    plan: Plan
    prediction: Prediction


def search_space(plan: Plan, fixed: Fixed, calibration: Calibration) -> Iterator[Plan]:
    """Yield all variants of a plan, each once. Fields that a strategy ignores stay unchanged."""
    seen = set()
    for strategy in StrategyName:
        if fixed.strategy not in (None, strategy):
            continue
        if fixed.strategy is None and strategy in CLUSTERS and strategy not in calibration.clusters:
            continue  # nothing is known of it, or it cannot be reached
        for kernel in fixed.kernels:
            releases_gil = calibration.kernel(plan.workload, kernel).releases_gil
            for workers in _workers(plan, strategy, releases_gil, fixed, calibration):
                for batch_size in _batch_sizes(plan, workers, fixed):
                    for in_flight in _concurrencies(plan, strategy, fixed):
                        key = strategy, kernel, workers, batch_size, in_flight
                        if key in seen:
                            continue
                        seen.add(key)
                        found = replace(
                            plan,
                            strategy=strategy,
                            kernel=kernel,
                            workers=workers,
                            batch_size=batch_size,
                            io_concurrency=in_flight,
                            group_size=min(fixed.query_batch_size, batch_size),
                        )
                        yield with_parcels(found, calibration)


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
    if strategy in CLUSTERS:  # its workers are there anyway
        return (min(MOST_WORKERS, calibration.cluster(strategy).workers),)
    in_processes = uses_processes(strategy, releases_gil)
    most = calibration.max_processes if in_processes else calibration.max_threads
    most = min(most, MOST_WORKERS, plan.item_count)
    cpus = calibration.usable_cpus
    if not plan.stages or strategy is StrategyName.HYBRID:  # workers that wait for nothing
        most = min(most, cpus if in_processes else 2 * cpus)
    powers = {2**n for n in range(9) if 2**n < most}
    return sorted(powers | {most, min(most, cpus)})


def _batch_sizes(plan: Plan, workers: int, fixed: Fixed) -> Iterable[int]:
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
    if not plan.stages or not CAPABILITIES[strategy].overlaps_io:
        return (plan.io_concurrency,)
    return sorted({min(each, max(plan.item_count, 1)) for each in CONCURRENCIES})


def ranked(plans: Iterable[Plan], calibration: Calibration, memory_bytes: int) -> list[Candidate]:
    """Return the plans with their predictions, fastest first. Among plans within TIE of the
    fastest of them, fewer workers and fewer items in flight come first. Plans that need more than
    `memory_bytes` come last.
    """
    fitting, too_large = [], []
    for plan in plans:
        prediction = predict(plan, calibration)
        if prediction.memory_bytes <= memory_bytes:
            fitting.append(Candidate(plan, prediction))
        else:
            too_large.append(Candidate(plan, replace(prediction, limited_by=Limit.MEMORY)))
    return [*_ordered(fitting), *_ordered(too_large)]


def _ordered(candidates: list[Candidate]) -> Iterator[Candidate]:
    by_seconds = sorted(candidates, key=lambda each: (each.prediction.seconds, _cost(each)))
    start = 0
    while start < len(by_seconds):
        most = by_seconds[start].prediction.seconds * (1 + TIE)
        end = start
        while end < len(by_seconds) and by_seconds[end].prediction.seconds <= most:
            end += 1
        yield from sorted(by_seconds[start:end], key=_cost)
        start = end


def _cost(candidate: Candidate) -> tuple[object, ...]:
    """Return the sort key among ties; it has every field, so that the order is always the same."""
    plan = candidate.plan
    return (
        plan.workers if CAPABILITIES[plan.strategy].parallel else 1,
        plan.io_concurrency,
        candidate.prediction.seconds,
        BY_PREFERENCE.index(plan.strategy),
        plan.kernel,
        plan.batch_size,
    )


def lower_bound_seconds(plan: Plan, calibration: Calibration, most_in_flight: int) -> float:
    """Return the least seconds that any choice of workers and batch size can take on the plan's
    kernel, on this machine or on the cluster of its strategy: max(n × t_io ÷ C, one wait, n × t_cpu
    ÷ p), with at most C items in flight, p CPUs, and t_cpu of an item in the kernel's best call.
    """
    count = plan.item_count
    waits = waits_at_once(plan.stages, 1, 0.0)
    kernel = calibration.kernel(plan.workload, plan.kernel)
    operations = kernels.get_workload(plan.workload).operations(plan.parameters)
    item = sum(
        each * min(kernel.operation_seconds[term]) for term, each in operations.items() if each
    )
    io = max(waits.mean if count else 0.0, count * waits.mean / most_in_flight)
    if plan.strategy in CLUSTERS:
        costs = calibration.cluster(plan.strategy)
        return max(io, count * item * costs.slowdown / costs.workers)
    return max(io, count * item / calibration.usable_cpus)
