"""The output of commands: JSON for machines, tables for people."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from hotloop.app.wording import plain

_WIDTH_OF_FILES: Final = 200
"""Characters of a line that goes to no terminal."""

_UNITS: Final = ((1.0, "s", 1.0), (1e3, "ms", 1e-3), (1e6, "µs", 1e-6), (1e9, "ns", 0.0))
"""Units of times: factor, name, the least seconds that are shown in the unit."""


def print_json(value: Any) -> None:
    """Print one JSON document in ASCII, which any encoding can hold."""
    print(json.dumps(value, indent=2))


def print_rich(*parts: RenderableType) -> None:
    """Print to the output, with colours if it is a terminal."""
    if sys.stdout.isatty():
        console = Console(highlight=False)
        for part in parts:
            # The terminal breaks a word that is longer than a line; copied, it is whole.
            console.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))
        return
    # Files get wide lines without trailing blanks.
    text = _Captured()
    console = Console(file=text, width=_WIDTH_OF_FILES, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
    for line in text.getvalue().splitlines():
        print(line.rstrip())


def print_sentences(text: str) -> None:
    """Print to the output; on a terminal, lines end between words."""
    print_rich(cell(text))


class _Captured(io.StringIO):
    """A buffer with the encoding of the output, so that tables use only its characters."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding


def width() -> int:
    """The number of characters of a line of the output."""
    return Console().width if sys.stdout.isatty() else _WIDTH_OF_FILES


def cell(value: object, style: str = "") -> Text:
    """Text that is shown as it is: no markup, and no character that moves the cursor."""
    return Text(plain(value, 2_000), style)


def command(text: str, width: int) -> Text:
    """A shell command in lines of at most `width` characters where it can be broken: before an
    option, with a backslash, and after a comma of quoted JSON. It can be copied as it stands.
    """
    text = plain(text, 20_000)
    if len(text) <= width:
        return Text(text, no_wrap=True)
    lines = [""]
    for part in _PARTS.findall(text):
        first, *others = part.split(_COMMA)
        if lines[-1] and len(f"{lines[-1]} {first}{_CONTINUED}") > width:
            lines[-1] += _CONTINUED
            lines.append("  " + first)
        else:
            lines[-1] += f" {first}" if lines[-1] else first
        for piece in others:
            # Within quotes a line break is white space of the JSON; a backslash would break it.
            lines[-1] += ","
            if len(f"{lines[-1]} {piece}{_CONTINUED}") > width:
                lines.append("    " + piece)
            else:
                lines[-1] += f" {piece}"
    return Text("\n".join(lines), no_wrap=True)


_PARTS: Final = re.compile(r"-\w (?:'[^']*'|\S+)|\S+")
"""Words of a command, an option with its value."""

_COMMA: Final = ", "
_CONTINUED: Final = " \\"


def pairs(rows: list[tuple[str, Text]]) -> Table:
    """A table of names and values."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def seconds(value: float | None) -> str:
    """A time with three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0 s"
    if value < 100:
        value = float(f"{value:.3g}")  # before the unit is chosen: 0.9996 s is 1 s
    factor, unit = next((f, u) for f, u, least in _UNITS if value >= least)
    scaled = value * factor
    return f"{scaled:,.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"


def between(low: float, high: float) -> str:
    """Write two times as a range; a unit that both have is written once."""
    first, last = seconds(low), seconds(high)
    number, unit = first.split()
    return f"{number} … {last}" if unit == last.split()[1] else f"{first} … {last}"


def size(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f} MiB"


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


_GAP: Final = 2
"""Characters between two columns."""

_EDGES: Final = 2
"""Characters before the first column and after the last one."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. Rank 0 is always shown; the highest other rank is left out first."""

    name: str
    rank: int = 0
    is_number: bool = True


Row = tuple[Sequence[Text | str], str]
"""The cells of a row, and its style."""


def fitted_table(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Table:
    """A table of at most `width` characters, if leaving out columns can achieve that."""
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
