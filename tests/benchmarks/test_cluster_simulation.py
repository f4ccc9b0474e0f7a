"""docs/simulation.md is what the command writes, and names the stage that holds up the workers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.cluster_scene import STAGES, Cost
from benchmarks.cluster_simulation import (
    COSTS,
    PAGE,
    REMEDIES,
    SATURATED,
    costs_table,
    feeds_table,
    first_saturated,
    main,
    scenes,
    share,
    simulated,
)


def test_page_has_the_constants_of_the_script() -> None:
    page = PAGE.read_text("utf-8")
    assert "\n".join(costs_table(COSTS)) in page
    assert "\n".join(feeds_table(COSTS)) in page


@pytest.mark.parametrize("engine", COSTS)
def test_hundred_workers_with_large_batches_compute_most_of_the_time(engine: str) -> None:
    scene = next(scene for _, scene in scenes(engine, COSTS[engine]))
    scene = replace(scene, workers=100)
    assert share(scene, simulated(scene)) > SATURATED


def test_first_stage_is_saturated_where_the_closed_form_says() -> None:
    free = {stage: Cost() for stage in STAGES}
    scene = next(scene for _, scene in scenes("dask", free))
    assert first_saturated(scene) is None
    slow = replace(scene, costs=free | {"driver": Cost(0.01), "scheduler": Cost(0.008)})
    assert first_saturated(slow) == ("driver", 76)
    assert first_saturated(replace(slow, costs=free | {"store": Cost(item=1e-4)})) is not None


def test_remedies_help_where_the_scheduler_holds_up_the_workers() -> None:
    costs = {stage: Cost() for stage in STAGES} | {"scheduler": Cost(0.05)}
    scene = next(scene for _, scene in scenes("dask", costs))
    scene = replace(scene, workers=60)
    before, after = (
        simulated(REMEDIES[name](scene)) for name in ("as it is", "parcels four times as long")
    )
    assert before.limit == "scheduler"
    assert share(scene, before) == pytest.approx(15 / 60, rel=0.05)
    assert share(scene, after) == pytest.approx(4 * 15 / 60, rel=0.1)


def test_unknown_argument_is_refused() -> None:
    with pytest.raises(SystemExit, match="--measure"):
        main(["--mesure"])
