"""`python -m tests.chaos`: many kills, and a report of what they have shown."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from tests.chaos.cluster import running_cluster
from tests.chaos.databases import mortal_postgres
from tests.chaos.load import LoadFigures, queue_many
from tests.chaos.report import Series, write
from tests.chaos.rounds import ONLY_POSTGRESQL, Kind, Outcome, Round
from tests.fixtures.processes import clean_up_on_sigterm
from tests.fixtures.server import ROOT

DATABASES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
LOADS: Final = ((100, 1_000), (1_000, 1_000))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kills", type=int, default=50, help="on each database; 0 for the load only"
    )
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument("--no-load", action="store_true", help="only the kills")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "reliability.md")
    asked = parser.parse_args()
    clean_up_on_sigterm()
    names = list(DATABASES) if asked.database == "both" else [asked.database]
    if not asked.kills:
        names = []
    series = [_kill(name, asked.seed, asked.kills) for name in names]
    loads = [] if asked.no_load else [_load(tasks, items) for tasks, items in LOADS]
    command = " ".join(["python -m tests.chaos", *sys.argv[1:]])
    write(asked.report, command, series, loads)
    bad = [outcome for one in series for outcome in one.outcomes if not outcome.is_good]
    unfinished = [load for load in loads if load.completed != load.tasks]
    print(f"{len(bad)} rounds were not as they must be" if bad else "all as it must be")
    return 1 if bad or unfinished else 0


def _kill(name: str, seed: int, kills: int) -> Series:
    kinds = [kind for kind in Kind if kind not in ONLY_POSTGRESQL or name == "postgresql"]
    order = [kinds[number % len(kinds)] for number in range(kills)]
    random.Random(seed).shuffle(order)
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="hotloop-chaos-") as folder,
        mortal_postgres() if name == "postgresql" else nullcontext() as database,
        running_cluster(Path(folder), database) as cluster,
    ):
        for number, kind in enumerate(order):
            outcome = Round(cluster, number, seed).run(kind)
            outcomes.append(outcome)
            fault = "" if outcome.is_good else f"  NOT AS IT MUST BE: {outcome}"
            passed = time.monotonic() - begun
            print(f"{name} {number + 1}/{kills} {passed:5.0f} s  {kind}{fault}", flush=True)
        cluster.stop()
    return Series(DATABASES[name], seed, time.monotonic() - begun, outcomes)


def _load(tasks: int, items: int) -> LoadFigures:
    print(f"{tasks:,} tasks of {items:,} items at once", flush=True)
    with tempfile.TemporaryDirectory(prefix="hotloop-chaos-") as folder:
        return queue_many(Path(folder), tasks, items)


if __name__ == "__main__":
    sys.exit(main())
