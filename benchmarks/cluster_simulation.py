"""`python -m benchmarks.cluster_simulation [--measure]`: simulate clusters of 2 to 10,000 workers,
and write docs/simulation.md. With `--measure`, the constants are measured on this machine first
(a minute and a half); without it, they are those below.
"""

from __future__ import annotations

import bisect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from benchmarks.cluster_funnel import Funnel, Outcome
from benchmarks.cluster_scene import STAGES, Cost, Scene
from benchmarks.machine import ROOT, machine_lines
from hotloop.app.prediction.plan import MOST_WORKERS

PAGE: Final = ROOT / "docs" / "simulation.md"
COMMAND: Final = "python -m benchmarks.cluster_simulation"

STORING: Final = {
    "node": Cost(batch=24e-6, item=62e-9),
    "store": Cost(parcel=1.6e-3, item=100e-9),
}
COSTS: Final[Mapping[str, Mapping[str, Cost]]] = {
    "dask": STORING
    | {
        "worker": Cost(2.1e-3, 84e-6, 67e-9),
        "scheduler": Cost(1.6e-3, 2e-6, 28e-9),
        "driver": Cost(1.1e-3, 1e-6, 48e-9),
        "run host": Cost(0.5e-3, 69e-6, 47e-9),
    },
    "ray": STORING
    | {
        "worker": Cost(1.2e-3, 80e-6, 73e-9),
        "scheduler": Cost(0.4e-3, 8e-6, 34e-9),
        "driver": Cost(1.1e-3, 9e-6, 39e-9),
        "run host": Cost(0.4e-3, 67e-6, 38e-9),
    },
}
"""CPU seconds of each stage: rounded means of what `--measure` found in two or three rounds."""

MEASURED_ON: Final = "two cores of an AMD EPYC, on which everything ran together, on 2026-11-30"

BATCHES: Final = (50e-3, 5e-3, 0.5e-3)
ITEMS: Final = (500e-6, 25e-6)
"""Seconds of computing of an item: some function of one's own, and the compiled `loops`."""

WORKERS: Final = (2, 10, 100, 1_000, 10_000)
PARCELS_A_WORKER: Final = 12
LEAST_PARCELS, MOST_PARCELS = 1_200, 60_000

SATURATED: Final = 0.9
"""Share of the ideal pace below which a stage is named that holds up the workers."""


def scenes(engine: str, costs: Mapping[str, Cost]) -> Iterator[tuple[str, Scene]]:
    """The scenes of an engine with their names, for two workers."""
    for batch in BATCHES:
        for item in ITEMS:
            items = round(batch / item)
            name = f"`{engine}`, {batch * 1e3:g} ms, {items:,} item{'s' if items > 1 else ''}"
            yield name, Scene(costs, 2, batch, items)


def simulated(scene: Scene) -> Outcome:
    return Funnel(scene).run(
        min(MOST_PARCELS, max(LEAST_PARCELS, PARCELS_A_WORKER * scene.workers))
    )


def share(scene: Scene, outcome: Outcome) -> float:
    """The pace ÷ that of workers that do nothing but compute."""
    return outcome.batches_per_second * scene.batch_seconds / scene.workers


def _share_text(scene: Scene, outcome: Outcome) -> str:
    found = share(scene, outcome)
    is_held_up = found < SATURATED and outcome.limit != "worker"
    return f"{found:.0%}" + (f" ({outcome.limit})" if is_held_up else "")


def costs_table(costs: Mapping[str, Mapping[str, Cost]]) -> Iterator[str]:
    yield "| engine | stage | a parcel | a batch | an item |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for engine, found in costs.items():
        for stage in STAGES:
            cost = found[stage]
            figures = " | ".join(f"{1e6 * s:,.4g}" for s in (cost.parcel, cost.batch, cost.item))
            yield f"| `{engine}` | {stage} | {figures} |"


def feeds_table(costs: Mapping[str, Mapping[str, Cost]]) -> Iterator[str]:
    """The closed form: how many workers one server of each stage can keep busy."""
    stages = STAGES[1:]
    yield f"| batches | {' | '.join(stages)} | saturated first |"
    yield f"| --- |{' ---: |' * len(stages)} --- |"
    for engine, found in costs.items():
        for name, scene in scenes(engine, found):
            full = replace(scene, workers=MOST_WORKERS)
            figures = " | ".join(f"{full.feeds(stage):,.0f}" for stage in stages)
            yield f"| {name} | {figures} | {_first_text(scene)} |"


def first_saturated(scene: Scene) -> tuple[str, int] | None:
    """The first stage to be saturated while workers are added, and with how many; None if none is
    with the most of WORKERS.
    """

    def with_workers(number: int) -> Scene:
        return replace(scene, workers=number)

    counts = range(1, WORKERS[-1] + 1)
    place = bisect.bisect_left(
        counts, True, key=lambda number: with_workers(number).saturated is not None
    )
    if place == len(counts):
        return None
    stage = with_workers(counts[place]).saturated
    assert stage is not None
    return stage, counts[place]


def _first_text(scene: Scene) -> str:
    found = first_saturated(scene)
    return "none" if found is None else f"{found[0]}, with {found[1]:,} workers"


def pace_tables(costs: Mapping[str, Mapping[str, Cost]]) -> Iterator[str]:
    """Pace and utilisation, simulated."""
    yield f"| batches | {' | '.join(f'{w:,} workers' for w in WORKERS)} | items/s of 1,000 |"
    yield f"| --- |{' ---: |' * (len(WORKERS) + 1)}"
    used = []
    for engine, found in costs.items():
        for name, scene in scenes(engine, found):
            print(f"  {name}", flush=True)
            each = [replace(scene, workers=workers) for workers in WORKERS]
            outcomes = dict(zip(WORKERS, map(simulated, each), strict=True))
            cells = [_share_text(s, outcomes[s.workers]) for s in each]
            thousand = outcomes[1_000]
            items = thousand.batches_per_second * scene.batch_items
            yield f"| {name} | {' | '.join(cells)} | {items:,.0f} |"
            figures = " | ".join(f"{thousand.utilisation[stage]:.0%}" for stage in STAGES)
            used.append(f"| {name} | {figures} |")
    yield "\nThe same for 1,000 workers: how busy each stage is.\n"
    yield f"| batches | {' | '.join(STAGES)} |"
    yield f"| --- |{' ---: |' * len(STAGES)}"
    yield from used


REMEDIES: Final[Mapping[str, Callable[[Scene], Scene]]] = {
    "as it is": lambda scene: scene,
    "parcels four times as long": lambda scene: replace(scene, longer=4),
    "twice the nodes": lambda scene: replace(scene, nodes=2 * scene.runs),
    "a store four times as strong": lambda scene: replace(scene, transactions=16),
    "all three": lambda scene: replace(scene, longer=4, nodes=2 * scene.runs, transactions=16),
    "workers write directly": lambda scene: replace(scene, direct=True, nodes=2 * scene.runs),
}
"""Changes of a scene that may relieve the stage that holds up its workers, by their names."""


def remedies_table(costs: Mapping[str, Mapping[str, Cost]]) -> Iterator[str]:
    yield f"| batches, 1,000 workers | {' | '.join(REMEDIES)} |"
    yield f"| --- |{' ---: |' * len(REMEDIES)}"
    for engine, found in costs.items():
        for name, scene in scenes(engine, found):
            print(f"  {name}, remedies", flush=True)
            tried = [remedy(replace(scene, workers=1_000)) for remedy in REMEDIES.values()]
            yield f"| {name} | {' | '.join(_share_text(s, simulated(s)) for s in tried)} |"


def lines(costs: Mapping[str, Mapping[str, Cost]], measured_on: str) -> Iterator[str]:
    """The page, without its title."""
    yield from _about(measured_on)
    yield from costs_table(costs)
    yield """
## How many workers one process of each stage can feed

The closed form: the seconds of a parcel in its worker ÷ the seconds that the stage needs for it,
with the parcels of a run of 256 workers. There is a driver, a run host and a node for every run,
and a run uses at most 256 workers; so they must feed 256 each. There is one scheduler, and it
must feed all. The figure of the store is for one CPU of the database out of four, without
transactions. The last column adds workers until a stage is saturated.
"""
    yield from feeds_table(costs)
    yield f"""
## Simulated: share of the ideal pace

The ideal pace is that of workers that do nothing but compute. Below {100 * SATURATED:.0f} %
the stage is named that is busiest, unless it is the workers themselves (their own overhead for
small batches). There is one node for every 256 workers.
"""
    yield from pace_tables(costs)
    yield """
## What helps

- *Parcels four times as long*: 3 s instead of 0.75 s, 4,000 batches at most, and 512 MiB in
  flight.
- *Twice the nodes*: two run hosts for every 256 workers, so each feeds 128.
- *A store four times as strong*: 16 transactions at the same time instead of 4.
- *Workers write directly*: results go from the workers into the store, and only the counts
  through the funnel. Hotloop does not do this; the column shows what it would gain. Twice the
  nodes, too.
- *Larger batches*: compare the rows. `batch_size: auto` makes them as large as a second of
  computing.
"""
    yield from remedies_table(costs)


def _about(measured_on: str) -> Iterator[str]:
    yield f"""This page is for operators and engineers who ask how far one scheduler, and the
way of results through Hotloop, would reach: which stage is the first to hold up the workers, at
how many workers, and what to do then. **It is a simulation, not a run**: nobody has started
10,000 workers. `{COMMAND}` writes it; do not edit it. [scaling.md](scaling.md) says what the
stages are.

- It is a discrete-event simulation (`benchmarks/cluster_funnel.py`) of parcels on their way: run
  host → worker → scheduler → driver → run host → node → store. Its rules are Hotloop's: the size
  of parcels, the parcels in flight, a message with results every quarter of a second or when it
  has 4 MiB, one transaction a message.
- Tests hold it against closed forms: a worker without overhead, saturated stages, Little's law.
- Its constants are CPU seconds of each process, measured on a real cluster of two workers
  ({measured_on}; with `--measure` on yours). Each process counts as one thread. What the
  simulation cannot know is whether a scheduler with thousands of workers needs more for a parcel
  than one with two. It has no slow network either: 1 ms from one machine to another, and any
  number of bytes a second.
- The scheduler of `ray` is its head. The processes of Ray on each node are not a stage: there
  are more of them, the more nodes there are.
- The store is PostgreSQL with four CPUs.
- Parcels take 20 % more or less than their mean (gamma distribution), by a fixed seed.

## Constants

Microseconds of CPU time; for the store of a transaction instead of a parcel.
"""


def main(arguments: list[str]) -> None:
    if set(arguments) - {"--measure"}:
        sys.exit(f"usage: {COMMAND} [--measure]")
    costs, measured_on = COSTS, MEASURED_ON
    if arguments:
        # The clusters' packages are needed for this alone.
        from benchmarks.cluster_stages import measure_cluster, measure_store

        storing = measure_store()
        costs = {engine: storing | measure_cluster(engine) for engine in COSTS}
        machine = machine_lines()
        measured_on = ", ".join(machine[n].removeprefix("- ") for n in (0, 3))
    text = "\n".join(lines(costs, measured_on)).rstrip()
    PAGE.write_text(f"# A simulation of large clusters\n\n{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
