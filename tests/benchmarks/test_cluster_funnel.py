"""The simulation of a cluster, held against closed forms."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import pytest

from benchmarks.cluster_funnel import Funnel
from benchmarks.cluster_scene import STAGES, Cost, Scene
from hotloop.app.prediction.plan import MOST_WORKERS
from hotloop.app.runhost.execution import FULL_BYTES

FREE = {stage: Cost() for stage in STAGES}
ALONE = Scene(FREE, workers=1, batch_seconds=0.05, batch_items=100, latency=0.0, spread=0.0)


def costing(**costs: Cost) -> dict[str, Cost]:
    return FREE | {name.replace("_", " "): cost for name, cost in costs.items()}


def test_worker_without_overhead_computes_all_the_time() -> None:
    outcome = Funnel(ALONE).run(100)
    assert ALONE.parcel == 15
    assert outcome.batches_per_second == pytest.approx(20)
    assert outcome.utilisation["worker"] == pytest.approx(1)
    assert outcome.limit == "worker"


@pytest.mark.parametrize("workers", [2, 100, MOST_WORKERS, 2 * MOST_WORKERS, 1_000])
def test_workers_without_overhead_add_up(workers: int) -> None:
    outcome = Funnel(replace(ALONE, workers=workers, spread=0.1)).run(20 * workers)
    assert outcome.batches_per_second == pytest.approx(20 * workers, rel=0.12)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage not in ("worker", "store")])
@pytest.mark.parametrize("cost", [Cost(parcel=0.5), Cost(batch=0.5 / 15), Cost(item=0.5 / 1_500)])
def test_saturated_process_gives_the_pace(stage: str, cost: Cost) -> None:
    costs = FREE | {stage: cost}
    outcome = Funnel(replace(ALONE, costs=costs, workers=10, spread=0.2)).run(400)
    assert outcome.utilisation[stage] == pytest.approx(1, rel=0.02)
    assert outcome.parcels_per_second == pytest.approx(2, rel=0.02)
    assert outcome.utilisation["worker"] == pytest.approx(2 * 0.75 / 10, rel=0.1)
    assert outcome.limit == stage


def test_saturated_store_gives_the_pace() -> None:
    scene = replace(
        ALONE, costs=costing(store=Cost(item=1e-3)), workers=1_000, nodes=8, transactions=2
    )
    outcome = Funnel(scene).run(600)
    assert outcome.utilisation["store"] == pytest.approx(1, rel=0.02)
    assert outcome.parcels_per_second == pytest.approx(2 / 1.5, rel=0.05)


def test_run_host_waits_for_a_slow_store() -> None:
    """A message of four megabytes is on its way, another one waits, and nothing more is taken."""
    scene = replace(ALONE, costs=costing(store=Cost(item=1e-3)), workers=200, batch_items=2_000)
    outcome = Funnel(scene).run(2_000)
    message = ceil(FULL_BYTES / (scene.parcel * 2_000 * 41))
    assert outcome.in_flight <= scene.window + 2 * message
    assert outcome.batches_per_second == pytest.approx(1 / 2, rel=0.1)


@pytest.mark.parametrize(
    "scene",
    [
        ALONE,
        replace(ALONE, workers=50, spread=0.5, latency=0.01),
        replace(ALONE, workers=50, costs=costing(scheduler=Cost(0.1), node=Cost(0, 0.001))),
        replace(ALONE, workers=600, costs=costing(driver=Cost(0.01)), batch_items=5_000),
        replace(ALONE, workers=50, costs=costing(store=Cost(0.02, 0, 1e-6)), direct=True),
    ],
)
def test_littles_law_holds(scene: Scene) -> None:
    outcome = Funnel(scene).run(5_000)
    assert outcome.in_flight == pytest.approx(
        outcome.parcels_per_second * outcome.seconds_in_flight, rel=0.05
    )


def test_pace_is_within_the_bounds_of_closed_networks() -> None:
    """Neither more than the slowest stage passes, nor more than parcels in flight go round."""
    costs = costing(scheduler=Cost(0.02), driver=Cost(0.05), run_host=Cost(0.01))
    for workers in (1, 4, 15, 60):
        scene = replace(ALONE, costs=costs, workers=workers)
        pace = Funnel(scene).run(1_000).parcels_per_second
        assert pace <= min(1 / 0.05, workers / 0.75) * 1.01
        assert pace >= workers / (0.75 + workers * (0.02 + 0.05 + 0.01)) * 0.99
    assert scene.feeds("driver") == pytest.approx(0.75 / 0.05)


def test_saturation_begins_where_the_closed_form_says() -> None:
    scene = replace(ALONE, costs=costing(scheduler=Cost(0.01)), spread=0.2)
    most = scene.feeds("scheduler")
    few, many = (
        Funnel(replace(scene, workers=round(part * most))).run(4_000) for part in (0.7, 1.4)
    )
    assert (few.limit, many.limit) == ("worker", "scheduler")
    assert few.utilisation["worker"] > 0.95
    assert many.utilisation["worker"] == pytest.approx(1 / 1.4, rel=0.03)


def test_parcels_have_the_size_of_the_strategy() -> None:
    """They shrink where all in flight would have more than 128 MiB."""
    assert replace(ALONE, batch_seconds=0.005).parcel == 150
    assert replace(ALONE, batch_seconds=0.0005).parcel == 1_000
    large = replace(ALONE, workers=200, batch_items=100_000)
    assert large.parcel == 1
    assert large.window * large.parcel * 100_000 * 41 <= 128 << 20
    assert replace(ALONE, longer=4).parcel == 60


def test_direct_writing_spares_the_way_the_items() -> None:
    costs = costing(node=Cost(item=1e-3), store=Cost(parcel=1e-3, item=1e-6))
    scene = replace(ALONE, costs=costs, workers=50)
    through, direct = (Funnel(replace(scene, direct=each)).run(500) for each in (False, True))
    assert through.limit == "node"
    assert direct.limit == "worker"
    assert direct.batches_per_second > 20 * through.batches_per_second


def test_seed_decides_the_outcome() -> None:
    scene = replace(ALONE, workers=10, spread=0.2)
    assert Funnel(scene).run(200) == Funnel(scene).run(200)
    assert Funnel(scene).run(200) != Funnel(replace(scene, seed=2)).run(200)
