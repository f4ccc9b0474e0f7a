"""model, plan, search_space, calibrate.cluster_costs: strategies on clusters."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from hotloop.app.errors import InvalidRequestError
from hotloop.app.names import CLUSTERS, StrategyName
from hotloop.app.prediction.model import predict
from hotloop.app.prediction.plan import MOST_WORKERS, make_plan, preferred
from hotloop.app.prediction.search_space import Fixed, lower_bound_seconds, ranked, search_space
from hotloop.app.runhost.calibrate.cluster_costs import ClusterTimes
from hotloop.app.runhost.calibrate.constants import (
    TYPICAL_CLUSTER,
    Calibration,
    ClusterCosts,
)
from hotloop.app.runhost.calibrate.timed_runs import Experiment, Medians, TimedRuns
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import Plan
from hotloop.app.strategies.cluster.strategy import PARCELS_A_WORKER, parcel_batches
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.calibrations import REPORTS, usual
from tests.prediction.test_model import plan

BIG = replace(TYPICAL_CLUSTER, workers=64, slowdown=1.0)
WITH_DASK = replace(usual(), clusters={"dask": BIG})
BOTH = Settings(ray_address="local", dask_address="local")
WORK = plan(StrategyName.DASK, 5_000_000, workers=MOST_WORKERS)
ALL = Fixed(kernels=("cython",))


def made(strategy: StrategyName, machine: Calibration, **body: Any) -> Plan:
    request = RunRequest(**body)
    items = GeneratedItems(request.total_items)
    return make_plan(strategy, request, items, REPORTS, machine, BOTH)


def test_large_cluster_is_recommended_for_much_work_once_it_is_measured() -> None:
    best = ranked(search_space(WORK, ALL, WITH_DASK), WITH_DASK, 1 << 40)[0].plan
    assert (best.strategy, best.workers) == (StrategyName.DASK, 64)
    assert best.batch_seconds > 0
    found = {each.strategy for each in search_space(WORK, ALL, usual())}
    assert found == set(LOCAL_STRATEGIES)


def test_little_work_stays_on_this_machine() -> None:
    best = ranked(search_space(plan(items=100), ALL, WITH_DASK), WITH_DASK, 1 << 40)[0].plan
    assert best.strategy not in CLUSTERS


def test_cluster_that_is_asked_for_is_predicted_with_typical_costs() -> None:
    ray = Fixed(kernels=("cython",), strategy=StrategyName.RAY)
    found = list(search_space(WORK, ray, usual()))
    assert {(each.strategy, each.workers) for each in found} == {(StrategyName.RAY, 2)}


def test_nothing_is_predicted_to_be_faster_than_the_bound_of_a_large_cluster() -> None:
    bound = lower_bound_seconds(WORK, WITH_DASK, MOST_WORKERS)
    here = lower_bound_seconds(replace(WORK, strategy=StrategyName.HYBRID), WITH_DASK, MOST_WORKERS)
    assert here == pytest.approx(32 * bound)  # 64 workers instead of two CPUs
    best = ranked(search_space(WORK, ALL, WITH_DASK), WITH_DASK, 1 << 40)[0]
    assert bound <= best.prediction.seconds < here


def test_auto_prefers_a_cluster_only_when_it_is_configured_and_measured() -> None:
    only_ray = Settings(ray_address="local")
    assert set(preferred(BOTH, usual())) == set(LOCAL_STRATEGIES)
    assert set(preferred(only_ray, WITH_DASK)) == set(LOCAL_STRATEGIES)
    assert set(preferred(BOTH, WITH_DASK)) == {*LOCAL_STRATEGIES, StrategyName.DASK}


@pytest.mark.parametrize("strategy", sorted(CLUSTERS))
def test_strategy_without_an_address_is_refused_and_names_the_setting(
    strategy: StrategyName,
) -> None:
    request = RunRequest(items_count=10)
    with pytest.raises(InvalidRequestError) as caught:
        make_plan(strategy, request, GeneratedItems(10), REPORTS, usual(), Settings())
    assert caught.value.field == "strategy"
    assert f"HOTLOOP_{strategy.upper()}_ADDRESS" in caught.value.text
    assert ", ".join(LOCAL_STRATEGIES) in caught.value.text


def test_run_uses_all_workers_of_a_cluster_unless_the_request_limits_them() -> None:
    assert made(StrategyName.DASK, WITH_DASK, items_count=1_000).workers == MOST_WORKERS
    assert made(StrategyName.DASK, WITH_DASK, items_count=1_000, workers=3).workers == 3
    few = made(StrategyName.DASK, WITH_DASK, items_count=100_000, workers=3)
    many = made(StrategyName.DASK, WITH_DASK, items_count=100_000)
    assert predict(many, WITH_DASK).seconds < predict(few, WITH_DASK).seconds


def test_workers_of_an_unknown_cluster_are_predicted_as_few() -> None:
    """Any number may be asked of it, but an estimate must not promise what is not known."""
    unknown = made(StrategyName.RAY, usual(), items_count=100_000)
    assert unknown.workers == MOST_WORKERS
    assert (
        predict(unknown, usual()).seconds == predict(replace(unknown, workers=2), usual()).seconds
    )


def test_batch_has_a_predicted_duration_on_a_cluster_only() -> None:
    on_dask = made(StrategyName.DASK, WITH_DASK, items_count=50_000)
    assert on_dask.batch_seconds == pytest.approx(
        predict(replace(on_dask, items=GeneratedItems(on_dask.batch_size)), WITH_DASK).seconds
        - BIG.start_seconds,
        rel=0.1,
    )
    assert made(StrategyName.HYBRID, WITH_DASK, items_count=50_000).batch_seconds == 0


class Predicted(TimedRuns):
    """Runs that take as long as the model predicts for a machine."""

    def __init__(self, machine: Calibration) -> None:
        self._machine = machine

    async def in_turns(self, experiments: Sequence[Experiment], rounds: int) -> Medians:
        return {
            (each.plan.strategy, each.what): predict(each.plan, self._machine).seconds
            for each in experiments
        }


class Connected:
    """The part of a strategy that a calibration calls beside its runs."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    async def prepare(self, plan: Plan) -> int:
        return min(self._workers, plan.workers)


@pytest.mark.parametrize("workers", [2, 16])
def test_costs_of_a_cluster_are_found_again(workers: int) -> None:
    """Runs that take as long as the model predicts for a cluster give the constants of it."""
    expected = ClusterCosts(workers, 0.0, 10e-3, 3e-3, 8e-3, 0.2e-3, 80e-9, 5e-9, 1.25)
    machine = replace(usual(), clusters={"dask": expected})
    times = ClusterTimes.with_kernel(StrategyName.DASK, machine.kernel("loops", "cython"))
    strategy = cast(Any, Connected(workers))
    found = asyncio.run(times.measure(strategy, Predicted(machine)))
    fields: Mapping[str, Any] = ClusterCosts.__dataclass_fields__
    for field in fields.keys() - {"setup_seconds"}:
        assert getattr(found, field) == pytest.approx(getattr(expected, field), rel=0.06), field


def test_parcels_grow_until_each_worker_has_a_few() -> None:
    short = plan(StrategyName.DASK, 100_000, batch_size=10, batch_seconds=1e-4)
    assert parcel_batches(short, 8) == 10_000 // (PARCELS_A_WORKER * 8) + 1
