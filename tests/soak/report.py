"""The results of a soak, as a generated section of docs/reliability.md."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.machine import machine_lines
from tests.fixtures.sections import replaced, table
from tests.soak.arrivals import Kind
from tests.soak.asking import Answer
from tests.soak.course import Outcome
from tests.soak.deaths import Victim
from tests.soak.readings import SHORTEST_SECONDS

NAME: Final = "mixed load"
WRITER: Final = "make soak"
_MIB: Final = 1 << 20


def write(path: Path, command: str, outcome: Outcome) -> None:
    """Replace the section; everything else stays."""
    text = path.read_text("utf-8") if path.exists() else ""
    section = [*lines(outcome), "", f"`{command}`", "", *machine_lines()]
    path.write_text(replaced(text, NAME, WRITER, section), "utf-8")


def lines(outcome: Outcome) -> list[str]:
    """The section without command and machine."""
    return [
        f"### {outcome.seconds / 60:g} minutes of mixed load",
        "",
        *_summary(outcome),
        "",
        *_requests(outcome),
        "",
        *_quantities(outcome),
        "",
        *_faults(outcome),
    ]


def _summary(outcome: Outcome) -> list[str]:
    killed = outcome.killed
    store = (outcome.readings[-1].store_bytes if outcome.readings else 0) / _MIB
    return [
        f"Seed {outcome.seed}. Killed: {killed[Victim.HOST]} run hosts, "
        f"{killed[Victim.WORKER]} pool workers. Background tasks accepted: {outcome.accepted:,}, "
        f"completed with the right checksum: {outcome.completed:,}. Synchronous runs and "
        f"comparisons that ended with a killed run host: {outcome.died}. Streams of events "
        f"abandoned: {outcome.abandoned:,}. All files at the end of the load: {store:.1f} MiB, "
        "nearly all of them the store with every result.",
    ]


def _requests(outcome: Outcome) -> list[str]:
    head = ["request", "sent", "served", "refused (503)", "latency, median / p99 / max ms"]
    return table(head, [row for kind in Kind if (row := _row(kind, outcome.answers))])


def _row(kind: Kind, answers: Sequence[Answer]) -> list[str]:
    those = [answer for answer in answers if answer.kind is kind]
    if not those:
        return []
    times = sorted(1_000 * answer.seconds for answer in those)
    p99 = times[min(len(times) - 1, int(0.99 * len(times)))]
    return [
        kind.value,
        f"{len(those):,}",
        f"{sum(answer.status < 300 for answer in those):,}",
        f"{sum(answer.status == 503 for answer in those):,}",
        f"{statistics.median(times):.1f} / {p99:.1f} / {times[-1]:.1f}",
    ]


def _quantities(outcome: Outcome) -> list[str]:
    if not outcome.flatness:
        return [f"Growth is judged from {SHORTEST_SECONDS / 60:g} minutes on."]
    head = ["quantity", "middle", "end", "growth over the later half", "at most"]
    rows = [
        [flat.name, *(f"{n:.1f}" for n in (flat.middle, flat.end, flat.growth, flat.bound))]
        for flat in outcome.flatness
    ]
    return table(head, rows)


def _faults(outcome: Outcome) -> list[str]:
    if not outcome.faults:
        return ["Nothing was wrong."]
    shown = [f"- {' '.join(fault.split())[:300]}" for fault in outcome.faults[:20]]
    return [f"**{len(outcome.faults)} things were wrong:**", "", *shown]
