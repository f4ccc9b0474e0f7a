"""The verdict of a comparison: the fastest cell, or the cells tied for it, and the text.

A winner differs from every other cell in two ways: its interval ends before the others begin, and
its median is less by at least LEAST_DIFFERENCE. Cells that differ less from the fastest are tied
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from hotloop.app.comparison.intervals import Interval
from hotloop.app.comparison.record import BACKGROUND, ComparisonRecord
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.comparison import Cell, CellFlag, CellStatus

LEAST_DIFFERENCE: Final = 0.05
"""Least difference of medians that counts. The layout of code and data in memory changes a
program's pace by as much, in all rounds of a process alike, so that more rounds do not help
(Mytkowicz et al., "Producing Wrong Data Without Doing Anything Obviously Wrong!", ASPLOS 2009)."""

_STATES: Final = {TaskStatus.FAILED: "failed", TaskStatus.CANCELLED: "was cancelled"}


@dataclass(frozen=True, slots=True)
class Contender:
    """A cell to be judged, with the interval of its seconds for all items."""

    index: int
    interval: Interval
    may_win: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fastest cell, and the cells tied with it."""

    fastest: tuple[int, ...]
    """Indexes of these cells, the least median first."""
    may_win: bool = True
    """False if the fastest cell cannot be the winner even without ties."""

    @property
    def winner(self) -> int | None:
        """Index of the winner; None if there is none."""
        return self.fastest[0] if len(self.fastest) == 1 and self.may_win else None


def judge(contenders: Sequence[Contender]) -> Verdict | None:
    """Return the verdict; None without contenders."""
    if not contenders:
        return None
    order = sorted(contenders, key=lambda c: (c.interval.median, c.index))
    first = order[0].interval
    together = [c.index for c in order if c is order[0] or not _apart(first, c.interval)]
    return Verdict(tuple(together), order[0].may_win)


def _apart(faster: Interval, slower: Interval) -> bool:
    return faster.high < slower.low and faster.median * (1 + LEAST_DIFFERENCE) < slower.median


def contenders(cells: Sequence[Cell], kernel: str | None = None) -> list[Contender]:
    """Return the measured cells to be judged, on `kernel` or on any. Leave out cells with more
    failed items than others, because they did less work.
    """
    usable = [
        (index, cell)
        for index, cell in enumerate(cells)
        if cell.strategy != BACKGROUND
        and cell.median_seconds is not None
        and kernel in (None, cell.kernel)
    ]
    least = min((cell.failed_items for _, cell in usable), default=0)
    found = []
    for index, cell in usable:
        if cell.failed_items == least and cell.interval_seconds and cell.median_seconds is not None:
            low, high = cell.interval_seconds.low, cell.interval_seconds.high
            may_win = CellFlag.ONE_ITEM not in cell.flags
            found.append(Contender(index, Interval(cell.median_seconds, low, high), may_win))
    return found


def verdict_text(
    status: TaskStatus, record: ComparisonRecord, cells: Sequence[Cell], verdict: Verdict | None
) -> str:
    """Return the verdict on all cells in words, or the reason why there is none."""
    return _text(status, record, cells, verdict) + _warning(record)


def _text(
    status: TaskStatus, record: ComparisonRecord, cells: Sequence[Cell], verdict: Verdict | None
) -> str:
    if status is not TaskStatus.COMPLETED:
        state = _STATES.get(status, f"is {status}")
        return (
            f"No verdict: the comparison {state}, {record.done} of {record.planned} "
            "measurements are done."
        )
    if verdict is None:
        return "No verdict: only background was measured."
    first = cells[verdict.fastest[0]]
    others = len([c for c in cells if c.median_seconds is not None and c.strategy != BACKGROUND])
    if verdict.winner is not None and others == 1:
        return f"{_name(first)} takes {_seconds(first)}; nothing else was measured."
    if verdict.winner is not None:
        rest = [c for c in contenders(cells) if c.index != verdict.winner]
        following = cells[min(rest, key=lambda c: c.interval.median).index]
        return (
            f"{_name(first)} is the fastest: {_seconds(first)}, and the next one, "
            f"{_name(following)}, {_seconds(following)}."
        )
    if len(verdict.fastest) == 1:
        return (
            f"No winner: {_name(first)} has the least median, {_seconds(first)}, but it is "
            "projected from one item. Raise budget_seconds to measure more."
        )
    tied = ", ".join(_name(cells[index]) for index in verdict.fastest)
    return (
        f"Tied: {tied}. The least median is {_seconds(first)}; the other cells' intervals overlap "
        f"its interval, or their medians are less than {LEAST_DIFFERENCE:.0%} above."
    )


def _warning(record: ComparisonRecord) -> str:
    """Return a warning if the machine was busy before the comparison began, else ""."""
    before, cpus = record.host.get("load_before"), record.host.get("usable_cpus")
    if before is None or cpus is None or before <= cpus:
        return ""
    return (
        f" The machine was busy with something else (load {before:.1f} on {cpus} CPUs); compare "
        "again when it is idle."
    )


def _name(cell: Cell) -> str:
    return f"{cell.strategy} × {cell.kernel}"


def _seconds(cell: Cell) -> str:
    assert cell.median_seconds is not None
    assert cell.interval_seconds is not None
    low, high = cell.interval_seconds.low, cell.interval_seconds.high
    projected = ", projected" if cell.status is CellStatus.PROJECTED else ""
    return f"{cell.median_seconds:.4g} s ({low:.4g} … {high:.4g}{projected})"
