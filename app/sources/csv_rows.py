"""Rows in CSV (RFC 4180): a header line with the columns in any order, then a line for each item.

Fields are written as `texts` says, and may be quoted. They have no line ends, so each row is on one
line.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

from hotloop.app.errors import BadRowError
from hotloop.app.sources.base import Columns
from hotloop.app.sources.row_columns import RowColumn, check_names, shortened
from hotloop.app.sources.texts import PARTING, all_parts, is_number, parsed
from hotloop.app.sources.upload_lines import Line, line_text, most_line_bytes


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
        # The csv module's own limit is less than a line of long vectors.
        csv.field_size_limit(max(csv.field_size_limit(), most_line_bytes(columns)))

    def parse_chunk(self, texts: list[str]) -> Columns | None:
        """Return the columns of rows that `parse_row` would all accept; None in case of doubt."""
        try:
            rows = list(csv.reader(texts, strict=True))
        except csv.Error:
            return None
        # Fewer rows than lines: a quoted field went on over a line end.
        if len(rows) != len(texts) or set(map(len, rows)) != {len(self._columns)}:
            return None
        columns: Columns = {}
        for column, fields in zip(self._columns, zip(*rows, strict=True), strict=True):
            parts = all_parts(column, fields)
            values = None if parts is None else parsed(column, parts)
            array = None if values is None else column.array(values)
            if array is None:
                return None
            columns[column.name] = array
        return columns

    def parse_row(self, line: int, text: str) -> dict[str, Any]:
        """Return the values of a row by column. Raises BadRowError."""
        fields = _fields(line, text)
        if len(fields) != len(self._columns):
            raise BadRowError(
                line,
                None,
                f"has {len(fields)} fields where the header has {len(self._columns)}; "
                "give one for each column, write numbers without a comma, and part the values of a "
                "vector by spaces",
            )
        return {
            column.name: _value(line, column, field)
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


def _value(line: int, column: RowColumn, field: str) -> Any:
    if column.width is None:
        return _one(line, column, field)
    parts = field.split(PARTING)
    if len(parts) != column.width:
        form = "write them in one field, parted by single spaces"
        raise column.wrong_width(line, f"{len(parts):,}", form)
    return [_one(line, column, part, f" (value {n:,})") for n, part in enumerate(parts, 1)]


def _one(line: int, column: RowColumn, text: str, place: str = "") -> Any:
    shown = shortened(repr(text)) + place
    values = parsed(column, [text])
    if values is None:
        if is_number(column, text):
            raise column.out_of_bounds(line, shown)
        raise column.wrong_kind(line, shown)
    if not column.in_bounds(values[0]):
        raise column.out_of_bounds(line, shown)
    return values[0]
