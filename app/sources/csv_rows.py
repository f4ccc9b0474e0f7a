"""Rows in CSV (RFC 4180): a header line with the columns in any order, then a line for each item.

Numbers are written as in JSON: no spaces, no plus sign, no leading zeros, digits on both sides of
a point, and no point or exponent in integer columns. Fields may be quoted. Every value is a number,
so each row is on one line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from typing import Final

from hotloop.app.errors import BadRowError
from hotloop.app.sources.base import Columns
from hotloop.app.sources.row_columns import RowColumn, check_names, shortened
from hotloop.app.sources.upload_lines import Line, line_text

# `float` and `int` accept more: underscores, spaces, "nan", digits of other scripts.
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER: Final = re.compile(_INTEGER.pattern + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class CsvRows:
    """Reads rows in the order that `header` says. Raises BadRowError for another header."""

    def __init__(self, columns: Sequence[RowColumn], header: Line | None) -> None:
        if header is None:
            names = ",".join(column.name for column in columns)
            raise BadRowError(1, None, f"the file is empty; start it with the line {names}")
        line = header[0]
        names_given = _fields(line, line_text(header))
        check_names(line, names_given, columns)
        by_name = {column.name: column for column in columns}
        self._columns = [by_name[name] for name in names_given]

    def parse_chunk(self, texts: list[str]) -> Columns | None:
        """Return the columns of rows that `parse_row` would all accept; None in case of doubt."""
        try:
            rows = list(csv.reader(texts, strict=True))
        except csv.Error:
            return None
        # Fewer rows than lines: a quoted field went on over a line end.
        if len(rows) != len(texts) or set(map(len, rows)) != {len(self._columns)}:
            return None
        parsed: Columns = {}
        for column, fields in zip(self._columns, zip(*rows, strict=True), strict=True):
            if not all(map(_syntax(column).fullmatch, fields)):
                return None
            try:
                numbers = list(map(int if column.is_integer else float, fields))
            except ValueError:  # too many digits for `int`
                return None
            array = column.array(numbers)
            if array is None:
                return None
            parsed[column.name] = array
        return parsed

    def parse_row(self, line: int, text: str) -> dict[str, float]:
        """Return the numbers of a row by column. Raises BadRowError."""
        fields = _fields(line, text)
        if len(fields) != len(self._columns):
            raise BadRowError(
                line,
                None,
                f"has {len(fields)} fields where the header has {len(self._columns)}; "
                "give one for each column, and write numbers without a comma",
            )
        return {
            column.name: _number(line, column, field)
            for column, field in zip(self._columns, fields, strict=True)
        }


def _fields(line: int, text: str) -> list[str]:
    try:
        (fields,) = csv.reader([text], strict=True)
    except csv.Error as error:
        raise BadRowError(
            line, None, f"is not CSV: {error}; quote whole fields or none, within one line"
        ) from None
    return fields


def _syntax(column: RowColumn) -> re.Pattern[str]:
    return _INTEGER if column.is_integer else _NUMBER


def _number(line: int, column: RowColumn, field: str) -> float:
    shown = shortened(repr(field))
    if not _syntax(column).fullmatch(field):
        raise column.not_a_number(line, shown)
    try:
        number = int(field) if column.is_integer else float(field)
    except ValueError:
        raise column.out_of_bounds(line, shown) from None
    if not column.in_bounds(number):
        raise column.out_of_bounds(line, shown)
    return number
