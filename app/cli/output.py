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
            console.print(part)
        return
    # Wide, and without the blanks that fill a line.
    text = io.StringIO()
    console = Console(file=text, width=_WIDTH_OF_FILES, highlight=False)
    for part in parts:
        console.print(part)
    for line in text.getvalue().splitlines():
        print(line.rstrip())


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
    if value >= 100:
        return f"{value:,.0f} s"
    if value >= 1:
        return f"{value:.3g} s"
    if value >= 1e-3:
        return f"{value * 1e3:.3g} ms"
    return f"{value * 1e6:.3g} µs" if value else "0 s"


def size(value: int | None) -> str:
    return "–" if value is None else f"{value / 2**20:,.0f} MiB"


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
