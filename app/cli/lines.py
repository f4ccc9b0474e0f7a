"""Lines of text for people: broken at words on a terminal, whole in a file or a pipe."""

from __future__ import annotations

import os
import sys
import textwrap
from typing import Final, TextIO

from hotloop.app.wording import plain

_TERMINAL_WIDTH: Final = 80
"""Characters of a line of a terminal that does not say how many it has."""

_LONGEST: Final = 2_000
"""Characters of a line that are shown."""


def terminal_width(stream: TextIO) -> int:
    """Characters of a line of the terminal that the stream writes to; `COLUMNS` overrides it."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _TERMINAL_WIDTH
    except (OSError, ValueError):
        return _TERMINAL_WIDTH


def print_error(text: str) -> None:
    """Print to the error output. A word that is longer than a line, as an id, stays whole."""
    for line in text.splitlines():
        shown = plain(line, _LONGEST)
        if sys.stderr.isatty():
            shown = at_words(shown, terminal_width(sys.stderr))
        print(shown, file=sys.stderr, flush=True)


def at_words(line: str, width: int) -> str:
    """Break a line between words; what follows is indented as the line is."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.fill(
        line,
        width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def duration(value: float) -> str:
    """Seconds in words of at most two units: `17 s`, `4 min 10 s`, `1 h 20 min`, `3 d 4 h`."""
    total = max(round(value), 0)
    for unit, size, smaller, smaller_size in _UNITS:
        if total >= size:
            rest = total % size // smaller_size
            return f"{total // size:,} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{total} s"


_UNITS: Final = (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1))
