"""What the kills have shown, as the generated section of docs/reliability.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import machine_lines
from tests.chaos.load import LoadFigures
from tests.chaos.rounds import Kind, Outcome
from tests.fixtures.sections import replaced, table

WRITER: Final = "make chaos"


@dataclass(frozen=True, slots=True)
class Series:
    """The rounds over one database."""

    database: str
    seed: int
    seconds: float
    outcomes: Sequence[Outcome]


def write(path: Path, command: str, series: Sequence[Series], loads: Sequence[LoadFigures]) -> None:
    """Replace the sections that were measured now; everything else stays."""
    text = path.read_text("utf-8") if path.exists() else ""
    how = [f"`{command}`", "", *machine_lines()]
    for one in series:
        text = replaced(text, f"kills on {one.database}", WRITER, [*_table(one), "", *how])
    if loads:
        text = replaced(text, "many tasks", WRITER, [*_load_table(loads), "", *how])
    path.write_text(text, "utf-8")


def _table(series: Series) -> list[str]:
    title = f"### {len(series.outcomes)} kills on {series.database}"
    head = [
        "killed",
        "times",
        "tasks",
        "lost",
        "other checksum",
        "items not stored once",
        "finished batches recomputed",
        "unfinished batches recomputed, median / max",
        "back in the queue after, median / max s",
    ]
    rows = [_row(kind.value, [o for o in series.outcomes if o.kind is kind]) for kind in Kind]
    rows.append(_row("all", series.outcomes))
    return [
        title,
        "",
        f"Seed {series.seed}, {series.seconds:,.0f} s.",
        "",
        *table(head, [row for row in rows if row]),
    ]


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        return []
    again = [o.unfinished_recomputed for o in outcomes]
    seconds = [s for o in outcomes for s in o.adoption_seconds]
    return [
        name,
        str(len(outcomes)),
        str(sum(o.tasks for o in outcomes)),
        str(sum(o.lost for o in outcomes)),
        str(sum(o.wrong_checksums for o in outcomes)),
        str(sum(o.wrong_chunks for o in outcomes)),
        str(sum(o.finished_recomputed for o in outcomes)),
        f"{statistics.median(again):g} / {max(again)}",
        f"{statistics.median(seconds):.1f} / {max(seconds):.1f}" if seconds else "–",
    ]


def _load_table(loads: Sequence[LoadFigures]) -> list[str]:
    head = [
        "tasks at once",
        "items of each",
        "completed",
        "accepting all, s",
        "all completed, s",
        "`/health` p50 / p99 / max ms",
        "memory of the API before / after, MiB",
    ]
    rows = [
        [
            f"{load.tasks:,}",
            f"{load.items:,}",
            f"{load.completed:,}",
            f"{load.accepting_seconds:.1f}",
            f"{load.all_seconds:.1f}",
            f"{load.health.p50:.1f} / {load.health.p99:.1f} / {load.health.max:.1f}",
            f"{load.before_bytes / 2**20:.0f} / {load.after_bytes / 2**20:.0f}",
        ]
        for load in loads
    ]
    return ["### Many tasks at once, on SQLite", "", *table(head, rows)]
