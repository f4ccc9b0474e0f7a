"""Cautions about the cells of a comparison, each listed once with its cells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from hotloop.app.schemas.comparison import Cell, CellCaution, CellFlag, CellName

FLAG_TEXTS: Final[Mapping[CellFlag, str]] = {
    CellFlag.OUTLIERS: "a round lies far outside the others; it is kept",
    CellFlag.WIDE_SPREAD: "the rounds lie more than 10 % apart",
    CellFlag.SHORT_SAMPLE: "a round takes less than a millisecond: the clock and the "
    "scheduler decide",
    CellFlag.FEW_ROUNDS: "fewer rounds than asked for: the budget was used up",
    CellFlag.THROTTLED: "the container's CPU quota held the processes back",
    CellFlag.DISTURBED: "something else was executing in the service at the same time",
    CellFlag.FAILED_ITEMS: "some items failed, so the cell did less work",
    CellFlag.IDLE_WORKERS: "the batch size that was asked for makes fewer batches than there are "
    "workers",
    CellFlag.ONE_ITEM: "projected from rounds of one item: the interval is wide, and the cell "
    "cannot win",
}
"""The sentence for each flag; clients show it unchanged."""

_FIGURE: Final = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")


def cautions(cells: Sequence[Cell]) -> list[CellCaution]:
    """List the reasons why cells were skipped or projected, then the cells' flags. Reasons that
    differ only in figures are one caution.
    """
    found: dict[tuple[str, ...], list[tuple[str, Cell]]] = {}

    def add(name: str, text: str, cell: Cell) -> None:
        found.setdefault((name, *_FIGURE.split(text)), []).append((text, cell))

    for cell in cells:
        if cell.reason is not None:
            add(cell.status.value, cell.reason, cell)
    for cell in cells:
        for flag in cell.flags:
            add(flag.value, FLAG_TEXTS[flag], cell)
    return [
        CellCaution(
            name=name,
            text=_merged([text for text, _ in same]).removesuffix("."),
            cells=[CellName(strategy=cell.strategy, kernel=cell.kernel) for _, cell in same],
            where=_where([cell for _, cell in same], cells),
        )
        for (name, *_), same in found.items()
    ]


def _merged(texts: Sequence[str]) -> str:
    """Merge texts into one: figures that differ become a range from the least to the greatest."""
    columns = iter(list(zip(*(_FIGURE.findall(text) for text in texts), strict=True)))

    def span(_: re.Match[str]) -> str:
        ordered = sorted(next(columns), key=lambda figure: float(figure.replace(",", "")))
        least, most = ordered[0], ordered[-1]
        return least if least == most else f"{least} … {most}"

    return _FIGURE.sub(span, texts[0])


def _where(cells: Sequence[CellName], every: Sequence[CellName]) -> str:
    """Name cells in few words: a strategy with all its kernels is named once."""
    if len(cells) == len(every) > 1:
        return f"all {len(every)} cells"
    words = []
    for strategy in dict.fromkeys(cell.strategy for cell in cells):
        kernels = [cell.kernel for cell in cells if cell.strategy == strategy]
        known = [cell.kernel for cell in every if cell.strategy == strategy]
        is_whole = len(kernels) == len(known) > 1
        words.append(f"{strategy} {'(all kernels)' if is_whole else '× ' + ' and '.join(kernels)}")
    return ", ".join(words)
