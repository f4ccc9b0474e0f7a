"""Values written as text: the cells of a CSV file, and texts in Redis and Pinot.

Numbers are written as in JSON: no spaces, no plus sign, no leading zeros, digits on both sides of a
point, and no point or exponent for integers. A boolean is `true`, `false`, `1` or `0`, in any case.
A vector is its values, parted by single spaces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hotloop.app.sources.row_columns import RowColumn

# `float` and `int` accept more: underscores, spaces, "nan", digits of other scripts.
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(_INTEGER.pattern + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

_BOOLEANS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "True", "TRUE", "1"), True),
    **dict.fromkeys(("false", "False", "FALSE", "0"), False),
}

PARTING: Final = " "
"""The text between two values of a vector."""


def is_number(column: RowColumn, text: str) -> bool:
    """Return True for a text that is a number of the column's kind, of any size."""
    syntax = _INTEGER if column.is_integer else _NUMBER
    return not column.is_bool and syntax.fullmatch(text) is not None


def parsed(column: RowColumn, texts: Sequence[str]) -> list[Any] | None:
    """Return numbers or booleans; None if any of the texts is none. Bounds are not checked."""
    if column.is_bool:
        booleans = list(map(_BOOLEANS.get, texts))
        return None if None in booleans else booleans
    syntax = _INTEGER if column.is_integer else _NUMBER
    if not all(map(syntax.fullmatch, texts)):
        return None
    try:
        return list(map(int if column.is_integer else float, texts))
    except ValueError:  # too many digits for `int`
        return None


def all_parts(column: RowColumn, texts: Sequence[str]) -> Sequence[str] | None:
    """Return the values of all texts in one sequence; None if any text has not the width."""
    if column.width is None:
        return texts
    between = column.width - 1
    if any(text.count(PARTING) != between for text in texts):
        return None
    return PARTING.join(texts).split(PARTING)


def read_text(column: RowColumn, text: str) -> Any | None:
    """Return the value, or the list of values, that a text holds; None if it holds none."""
    parts = all_parts(column, [text])
    values = None if parts is None else parsed(column, parts)
    if values is None or column.width is not None:
        return values
    return values[0]
