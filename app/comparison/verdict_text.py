"""Which cells may win, and the verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hotloop.app.comparison.intervals import Interval
from hotloop.app.comparison.record import BACKGROUND, ComparisonRecord
from hotloop.app.comparison.verdict import LEAST_DIFFERENCE, Contender, Verdict
from hotloop.app.names import TaskStatus
from hotloop.app.schemas.comparison import Cell, CellFlag, CellStatus

_STATES: Final = {TaskStatus.FAILED: "failed", TaskStatus.CANCELLED: "was cancelled"}


def contenders(cells: Sequence[Cell], kernel: str | None = None) -> list[Contender]:
    """Cells that may win, with what `judge` asks for. Of those with more failed items than others
    nothing can be said: what took less time did less.
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


def words(
    status: TaskStatus, record: ComparisonRecord, cells: Sequence[Cell], verdict: Verdict | None
) -> str:
    """The verdict on all cells; None where nothing was measured, or not to the end."""
    return _verdict(status, record, cells, verdict) + _warning(record)


def _verdict(
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
        return f"{_of(first)} takes {_took(first)}; nothing else was measured."
    if verdict.winner is not None:
        rest = [c for c in contenders(cells) if c.index != verdict.winner]
        following = cells[min(rest, key=lambda c: c.interval.median).index]
        return (
            f"{_of(first)} is the fastest: {_took(first)}, and the next one, {_of(following)}, "
            f"{_took(following)}."
        )
    if len(verdict.fastest) == 1:
        return (
            f"No winner: {_of(first)} has the least median, {_took(first)}, but it is projected "
            "from one item. Raise budget_seconds to measure more."
        )
    tied = ", ".join(_of(cells[index]) for index in verdict.fastest)
    return (
        f"Tied: {tied}. The least median is {_took(first)}; the intervals of the others meet its "
        f"interval, or their medians are less than {LEAST_DIFFERENCE:.0%} above."
    )


def _warning(record: ComparisonRecord) -> str:
    """Of a machine that had more to do than it can, before the comparison began."""
    before, cpus = record.host.get("load_before"), record.host.get("usable_cpus")
    if before is None or cpus is None or before <= cpus:
        return ""
    return (
        f" The machine was busy with something else (load {before:.1f} on {cpus} CPUs); compare "
        "again when it is not."
    )


def _of(cell: Cell) -> str:
    return f"{cell.strategy} × {cell.kernel}"


def _took(cell: Cell) -> str:
    assert cell.median_seconds is not None
    assert cell.interval_seconds is not None
    low, high = cell.interval_seconds.low, cell.interval_seconds.high
    projected = ", projected" if cell.status is CellStatus.PROJECTED else ""
    return f"{cell.median_seconds:.4g} s ({low:.4g} … {high:.4g}{projected})"
