"""What commands print: JSON for machines, tables for people."""

from __future__ import annotations

import io
import json
import sys
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from app.wording import plain

_WIDTH_OF_FILES: Final = 200
"""Characters of a line where no terminal says how many it has."""

_UNITS: Final = ((1.0, "s", 1.0), (1e3, "ms", 1e-3), (1e6, "µs", 0.0))
"""Of times: factor, name, the least seconds that are shown in it."""

STATUS_STYLES: Final = {
    "completed": "green",
    "failed": "bold red",
    "cancelled": "yellow",
    "running": "cyan",
    "pending": "dim",
}


def print_json(value: Any) -> None:
    """One document, in ASCII: fit for any encoding."""
    print(json.dumps(value, indent=2))


def print_rich(*parts: RenderableType) -> None:
    """To the output, with colours where it is a terminal."""
    if sys.stdout.isatty():
        console = Console(highlight=False)
        for part in parts:
            # Lines of text stay whole: a command that was cut could not be copied.
            console.print(part, soft_wrap=isinstance(part, Text))
        return
    # Wide, and without the blanks that fill a line.
    text = _Captured()
    console = Console(file=text, width=_WIDTH_OF_FILES, highlight=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))
    for line in text.getvalue().splitlines():
        print(line.rstrip())


class _Captured(io.StringIO):
    """Tables are drawn with the characters that the output has."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding


def width() -> int:
    """Characters of a line of the output."""
    return Console().width if sys.stdout.isatty() else _WIDTH_OF_FILES


def cell(value: object, style: str = "") -> Text:
    """Text as it is: nothing in it is markup, and no character moves the cursor."""
    return Text(plain(value, 2_000), style)


def pairs(title: str, rows: list[tuple[str, Text]]) -> Table:
    """A table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def seconds(value: float | None) -> str:
    """With three significant digits."""
    if value is None:
        return "–"
    if value == 0:
        return "0 s"
    if value < 100:
        value = float(f"{value:.3g}")  # before the unit is chosen: 0.9996 s is 1 s
    factor, unit = next((f, u) for f, u, least in _UNITS if value >= least)
    scaled = value * factor
    return f"{scaled:,.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"


def size(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f} MiB"


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
