"""Cells of a comparison in words: for the terminal and for the page alike."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hotloop.app.cli.output import between, seconds
from hotloop.app.schemas.comparison import Cell, CellFlag, CellName, CellStatus, Comparison

FLAG_WORDS: Final[Mapping[CellFlag, str]] = {
    CellFlag.OUTLIERS: "a round lies far outside the others; it is kept",
    CellFlag.WIDE_SPREAD: "the rounds lie more than 10 % apart",
    CellFlag.SHORT_SAMPLE: "a round takes less than a millisecond: the clock and the "
    "scheduler decide",
    CellFlag.FEW_ROUNDS: "fewer rounds than asked for: the budget was used up",
    CellFlag.THROTTLED: "the container's CPU quota held the processes back",
    CellFlag.DISTURBED: "something else was executing in the service at the same time",
    CellFlag.IDLE_WORKERS: "the batch size that was asked for makes fewer batches than there are "
    "workers",
    CellFlag.ONE_ITEM: "projected from rounds of one item: the interval is wide, and the cell "
    "cannot win",
    CellFlag.FAILED_ITEMS: "some items failed, so the cell did less work",
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
    return "–" if interval is None else between(interval.low, interval.high)


def workers_of(cell: Cell, asked: int) -> str:
    """The number of workers that worked, and of those that were asked for."""
    return "–" if cell.effective_workers is None else f"{cell.effective_workers} of {asked}"


def rate_with_setup(cell: Cell, items: int) -> str:
    """Items per second where the set-up counts as part of the run."""
    if cell.median_seconds is None or cell.setup_seconds is None:
        return "–"
    total = cell.median_seconds + cell.setup_seconds
    return f"{items / total:,.0f}" if total else "–"


def measured_on(cell: Cell, items: int) -> str:
    """The items of a round."""
    return f"{cell.measured_items:,} of {items:,}" if cell.rounds else "–"


def some_of(cells: Sequence[CellName], every: Sequence[CellName]) -> str:
    """The names of some cells in few words: all kernels of a strategy are one name."""
    if len(cells) == len(every):
        return f"all {len(every)} cells"
    words = []
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        kernels = [cell.kernel for cell in cells if cell.strategy == strategy]
        known = [cell.kernel for cell in every if cell.strategy == strategy]
        if len(kernels) == len(known) > 1:
            words.append(f"{strategy} (all kernels)")
        else:
            words.append(f"{strategy} × {' and '.join(kernels)}")
    return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Caution:
    """Something to keep in mind, and the cells that it holds for."""

    name: str
    words: str
    cells: str


def cautions(cells: Sequence[Cell]) -> list[Caution]:
    """Each once: why cells were skipped or projected, then their flags. Reasons that differ in
    nothing but figures are one.
    """
    found: dict[tuple[str, ...], list[tuple[str, Cell]]] = {}

    def add(name: str, words: str, cell: Cell) -> None:
        found.setdefault((name, *_FIGURE.split(words)), []).append((words, cell))

    for cell in cells:
        if cell.status is CellStatus.PROJECTED:
            add(cell.status.value, _PROJECTED, cell)
        elif cell.reason is not None:
            add(cell.status.value, cell.reason, cell)
    for cell in cells:
        for flag in cell.flags:
            add(flag.value, FLAG_WORDS[flag], cell)
    return [
        Caution(name, _shared([words for words, _ in same]), some_of([c for _, c in same], cells))
        for (name, *_), same in found.items()
    ]


_FIGURE: Final = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def _shared(texts: Sequence[str]) -> str:
    """One text for several: figures that differ are given from the least to the most."""
    columns = iter(list(zip(*(_FIGURE.findall(text) for text in texts), strict=True)))

    def span(_: re.Match[str]) -> str:
        ordered = sorted(next(columns), key=lambda figure: float(figure.replace(",", "")))
        least, most = ordered[0], ordered[-1]
        return least if least == most else f"{least} … {most}"

    return _FIGURE.sub(span, texts[0])


_PROJECTED: Final = "measured on fewer items (~): all of them would take too much of the budget"


def outputs_words(comparison: Comparison) -> str:
    """Whether the cells computed the same, and how many were compared."""
    if comparison.outputs_equal is None:
        return "not compared: that takes two cells that were measured"
    count = comparison.compared_cells
    equal = "equal" if comparison.outputs_equal else "NOT equal"
    return f"{equal}, compared in {count} of {len(comparison.cells)} cells"


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


def batch_size_of(comparison: Comparison) -> str:
    """The batch size that was asked for."""
    asked = comparison.batch_size
    return asked if isinstance(asked, str) else f"{asked:,}"
