"""Cells of a comparison in words: for the terminal and for the page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from app.cli.output import seconds
from app.schemas.comparison import Cell, CellFlag, CellName, CellStatus, Comparison

FLAG_WORDS: Final[Mapping[CellFlag, str]] = {
    CellFlag.OUTLIERS: "a round lies far outside the others; it is kept",
    CellFlag.WIDE_SPREAD: "the rounds lie more than 10 % apart",
    CellFlag.SHORT_SAMPLE: "a round takes less than a millisecond: clock and scheduler decide",
    CellFlag.FEW_ROUNDS: "fewer rounds than asked for: the budget was used up",
    CellFlag.THROTTLED: "the container's CPU quota held the processes back",
    CellFlag.DISTURBED: "another run was executing on this machine at the same time",
    CellFlag.FAILED_ITEMS: "some items failed: what took less time did less",
}
"""What to keep in mind about a cell."""


def name_of(cell: CellName) -> str:
    return f"{cell.strategy} × {cell.kernel}"


def names_of(cells: Sequence[CellName]) -> str:
    return ", ".join(map(name_of, cells))


def is_same(one: CellName | None, other: CellName) -> bool:
    return one is not None and (one.strategy, one.kernel) == (other.strategy, other.kernel)


def standing(comparison: Comparison, cell: Cell) -> str:
    """`winner`, `tied`, or nothing."""
    if is_same(comparison.winner, cell):
        return "winner"
    return "tied" if any(is_same(one, cell) for one in comparison.tied) else ""


def median_of(cell: Cell) -> str:
    """With ~ before a projected one; how the cell stands where there is none."""
    if cell.median_seconds is None:
        return cell.status.value
    mark = "~" if cell.status is CellStatus.PROJECTED else ""
    return mark + seconds(cell.median_seconds)


def interval_of(cell: Cell) -> str:
    interval = cell.interval_seconds
    return "–" if interval is None else f"{seconds(interval.low)} … {seconds(interval.high)}"


def times(value: float | None) -> str:
    """A ratio."""
    if value is None:
        return "–"
    return f"{value:,.0f}×" if value >= 100 else f"{value:.3g}×"


def ranked(cells: Sequence[Cell]) -> list[Cell]:
    """The fastest first; those without a time last, in their order."""
    return sorted(
        cells,
        key=lambda cell: (cell.median_seconds is None, cell.median_seconds or 0.0),
    )
