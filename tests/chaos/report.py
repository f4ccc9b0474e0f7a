"""The results of the kills, as the generated section of docs/reliability.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.machine import machine_lines
from tests.chaos.judging import Outcome
from tests.chaos.kinds import UNHEALTHY, Kind
from tests.chaos.load import LoadFigures
from tests.fixtures.sections import replaced, table

WRITER: Final = "make chaos"

_SUMS: Final = (
    "kills",
    "tasks",
    "failed",
    "lost",
    "wrong_checksums",
    "wrong_chunks",
    "finished_recomputed",
    "left_over",
)
"""The fields of an outcome that a row shows the sums of, in their order."""


@dataclass(frozen=True, slots=True)
class Series:
    """The rounds over one database."""

    database: str
    seed: int
    seconds: float
    outcomes: Sequence[Outcome]
    unknown: int = 0
    """Tasks of all rounds that the store did not have at the end."""
    left_over: Sequence[str] = ()
    """Descriptions of what was left after all tasks were removed."""

    @property
    def is_good(self) -> bool:
        ends = not self.unknown and not self.left_over
        return ends and all(outcome.is_good for outcome in self.outcomes)


def write(path: Path, command: str, series: Sequence[Series], loads: Sequence[LoadFigures]) -> None:
    """Replace the sections that were measured now; everything else stays."""
    text = path.read_text("utf-8") if path.exists() else ""
    how = [f"`{command}`", "", *machine_lines()]
    for one in series:
        text = replaced(text, f"kills on {one.database}", WRITER, [*lines(one), "", *how])
    if loads:
        text = replaced(text, "many tasks", WRITER, [*_load_table(loads), "", *how])
    path.write_text(text, "utf-8")


def lines(series: Series) -> list[str]:
    """Lines of Markdown."""
    outcomes = series.outcomes
    head = [
        "failure",
        "times",
        "processes killed",
        "healthy tasks",
        "failed",
        "lost",
        "wrong checksum",
        "items not stored exactly once",
        "finished batches recomputed",
        "processes left over",
        "unfinished batches recomputed, median / max",
        "back in the queue after, median / max s",
    ]
    rows = [_row(kind.value, [o for o in outcomes if o.kind is kind]) for kind in Kind]
    rows.append(_row("all", outcomes))
    unhealthy = [o for o in outcomes if o.kind in UNHEALTHY]
    bounded = sum(not o.unbounded for o in unhealthy)
    left = ", ".join(series.left_over) or "no file, no row, no process"
    return [
        f"### {len(outcomes)} kills on {series.database}",
        "",
        f"Seed {series.seed}, {series.seconds:,.0f} s. Healthy tasks: "
        f"{_sum(outcomes, 'failed')} failed, {_sum(outcomes, 'lost') + series.unknown} lost, "
        f"{_sum(outcomes, 'wrong_checksums') + _sum(outcomes, 'wrong_chunks')} wrong, "
        f"{_sum(outcomes, 'finished_recomputed')} finished batches recomputed. Tasks that kill "
        f"their process each time: {len(unhealthy)}; ended as failed with the reason: {bounded}. "
        f"Left over after all tasks were deleted: {left}.",
        "",
        *table(head, [row for row in rows if row]),
    ]


def _sum(outcomes: Sequence[Outcome], name: str) -> int:
    return sum(getattr(outcome, name) for outcome in outcomes)


def _row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        return []
    again = [o.unfinished_recomputed for o in outcomes]
    seconds = [s for o in outcomes for s in o.adoption_seconds]
    return [
        name,
        str(len(outcomes)),
        *(str(_sum(outcomes, field)) for field in _SUMS),
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
