"""Tables that fit the line: columns that matter less are left out where there is no room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

_GAP: Final = 2
"""Characters between two columns."""

_EDGES: Final = 2
"""Characters before the first column and after the last one."""


@dataclass(frozen=True, slots=True)
class Column:
    """`rank` 0 is always shown; of the others, the highest rank is left out first."""

    name: str
    rank: int = 0
    is_number: bool = True


Row = tuple[Sequence[Text | str], str]
"""The cells of a row, and its style."""


def fitted_table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Table:
    """A table of at most `width` characters, as far as leaving out columns makes it so."""
    sizes = [
        max([cell_len(column.name), *(_length(cells[at]) for cells, _ in rows)])
        for at, column in enumerate(columns)
    ]
    kept = list(range(len(columns)))
    while _needed([sizes[at] for at in kept]) > width:
        last = max(kept, key=lambda at: columns[at].rank)
        if columns[last].rank == 0:
            break
        kept.remove(last)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for at in kept:
        justify = "right" if columns[at].is_number else "left"
        table.add_column(columns[at].name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for cells, style in rows:
        table.add_row(*(cells[at] for at in kept), style=style)
    return table


def _needed(sizes: Sequence[int]) -> int:
    return sum(sizes) + _GAP * (len(sizes) - 1) + _EDGES


def _length(value: Text | str) -> int:
    return value.cell_len if isinstance(value, Text) else cell_len(value)
