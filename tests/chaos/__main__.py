"""`python -m tests.chaos`: many kills, and a report of what they have shown."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Final

from tests.chaos.cluster import running_cluster
from tests.chaos.databases import mortal_postgres
from tests.chaos.judging import Outcome, left_after_removal, unknown_tasks
from tests.chaos.kinds import ONLY_POSTGRESQL, Kind, schedule
from tests.chaos.load import LoadFigures, queue_many
from tests.chaos.report import Series, lines, write
from tests.chaos.rounds import Round
from tests.fixtures.processes import clean_up_on_sigterm
from tests.fixtures.server import ROOT

DATABASES: Final = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
LOADS: Final = ((100, 1_000), (1_000, 1_000))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kills", type=int, default=100, help="on each database; 0 for the load only"
    )
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument(
        "--kind",
        action="append",
        choices=[kind.option for kind in Kind],
        help="only this one; can be given several times",
    )
    parser.add_argument("--no-load", action="store_true", help="only the kills")
    parser.add_argument("--report", type=Path, default=ROOT / "docs" / "reliability.md")
    asked = parser.parse_args()
    clean_up_on_sigterm()
    names = list(DATABASES) if asked.database == "both" else [asked.database]
    if not asked.kills:
        names = []
    kinds = [kind for kind in Kind if not asked.kind or kind.option in asked.kind]
    series = [_kill(name, asked.seed, asked.kills, kinds) for name in names]
    loads = [] if asked.no_load else [_load(tasks, items) for tasks, items in LOADS]
    command = " ".join(["python -m tests.chaos", *sys.argv[1:]])
    write(asked.report, command, series, loads)
    for one in series:
        print("\n".join(["", *lines(one)]))
    unfinished = [load for load in loads if load.completed != load.tasks]
    is_good = all(one.is_good for one in series) and not unfinished
    print("all as it must be" if is_good else "not all was as it must be")
    return 0 if is_good else 1


def _kill(name: str, seed: int, kills: int, kinds: list[Kind]) -> Series:
    possible = [kind for kind in kinds if kind not in ONLY_POSTGRESQL or name == "postgresql"]
    if not possible:
        sys.exit(f"python -m tests.chaos: {', '.join(kinds)}: not on {DATABASES[name]}")
    begun = time.monotonic()
    outcomes: list[Outcome] = []
    with (
        tempfile.TemporaryDirectory(prefix="hotloop-chaos-") as folder,
        mortal_postgres() if name == "postgresql" else nullcontext() as database,
        running_cluster(Path(folder), database) as cluster,
    ):
        for number, event in enumerate(schedule(kills, possible, seed)):
            outcome = Round(cluster, number, seed).run(event)
            outcomes.append(outcome)
            fault = "" if outcome.is_good else f"  NOT AS IT MUST BE: {outcome}"
            passed = time.monotonic() - begun
            print(f"{name} {number + 1}/{kills} {passed:5.0f} s  {event.kind}{fault}", flush=True)
        unknown = unknown_tasks(cluster)
        left_over = left_after_removal(cluster)
        cluster.stop()
    seconds = time.monotonic() - begun
    return Series(DATABASES[name], seed, seconds, outcomes, len(unknown), left_over)


def _load(tasks: int, items: int) -> LoadFigures:
    print(f"{tasks:,} tasks of {items:,} items at once", flush=True)
    with tempfile.TemporaryDirectory(prefix="hotloop-chaos-") as folder:
        return queue_many(Path(folder), tasks, items)


if __name__ == "__main__":
    sys.exit(main())
