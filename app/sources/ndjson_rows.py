"""Rows in NDJSON: on each line an object with a value for every column.

Integer columns have numbers without point and exponent; boolean ones true or false, or 1 or 0;
vectors are lists. Refused are repeated names, NaN, Infinity, quoted values, and booleans in place
of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NoReturn

from hotloop.app.errors import BadRowError
from hotloop.app.sources.base import Columns
from hotloop.app.sources.row_columns import RowColumn, check_names, shortened


class NdjsonRows:
    """Reads rows with these columns, in any order."""

    def __init__(self, columns: Sequence[RowColumn]) -> None:
        self._columns = columns
        self._values = itemgetter(*(column.name for column in columns))
        # This decoder accepts NaN and Infinity, but they are out of the bounds of every column.
        self._chunk_decoder = json.JSONDecoder()
        self._row_decoder = json.JSONDecoder(
            parse_constant=_refuse_constant, object_pairs_hook=_Pairs
        )

    def parse_chunk(self, texts: list[str]) -> Columns | None:
        """Return the columns of rows that `parse_row` would all accept; None in case of doubt.

        The lines are decoded as one list, which is several times faster. That each line is
        exactly one row follows from these together: it begins with `{` and ends with `}`; there
        are as many objects as lines; objects have all the columns and, by the number of quotation
        marks, no other name, none twice and no text; values are numbers, booleans or lists of
        them. So no object is within another one, and none goes on over a line end.
        """
        if not all(text[0] == "{" and text[-1] == "}" for text in texts):
            return None
        joined = f"[{','.join(texts)}]"
        try:
            objects = self._chunk_decoder.decode(joined)
            rows = list(map(self._values, objects))
        except (ValueError, RecursionError, TypeError, KeyError):
            return None
        quotation_marks = 2 * len(self._columns) * len(texts)
        if len(rows) != len(texts) or joined.count('"') != quotation_marks:
            return None
        parsed: Columns = {}
        for column, values in zip(self._columns, zip(*rows, strict=True), strict=True):
            array = column.array_of(values)
            if array is None:
                return None
            parsed[column.name] = array
        return parsed

    def parse_row(self, line: int, text: str) -> dict[str, Any]:
        """Return the values of a row by column. Raises BadRowError."""
        try:
            pairs = self._row_decoder.decode(text)
        except json.JSONDecodeError as error:
            raise BadRowError(
                line,
                None,
                f"is not JSON: {error.msg} at character {error.pos + 1}; "
                "write one object on each line",
            ) from None
        except _ConstantError as error:
            raise BadRowError(
                line, None, f"{error} is not JSON; give finite numbers only"
            ) from None
        except ValueError:
            raise BadRowError(
                line, None, "has an integer of thousands of digits; give numbers within bounds"
            ) from None
        except RecursionError:
            raise BadRowError(
                line, None, "is nested too deeply; write an object of values on each line"
            ) from None
        if not isinstance(pairs, _Pairs):
            raise BadRowError(line, None, f"is {_shown(pairs)}; write an object on each line")
        check_names(line, [name for name, _ in pairs], self._columns)
        row = dict(pairs)
        return {column.name: _value(line, column, row[column.name]) for column in self._columns}


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written, with repeated names."""


class _ConstantError(ValueError):
    """NaN, Infinity or -Infinity, which Python would accept."""


def _refuse_constant(name: str) -> NoReturn:
    raise _ConstantError(name)


def _value(line: int, column: RowColumn, value: object) -> Any:
    if column.width is None:
        return _one(line, column, value)
    if type(value) is not list or len(value) != column.width:  # _Pairs is a list, too
        shown = f"{len(value):,}" if type(value) is list else _shown(value)
        raise column.wrong_width(line, shown, "write them as a list")
    return [_one(line, column, each, f" (value {n:,})") for n, each in enumerate(value, 1)]


def _one(line: int, column: RowColumn, value: object, place: str = "") -> Any:
    shown = _shown(value) + place
    if column.is_bool:
        if isinstance(value, int) and value in (0, 1):
            return bool(value)
        raise column.wrong_kind(line, shown)
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or (column.is_integer and isinstance(value, float))
    ):
        raise column.wrong_kind(line, shown)
    if not column.in_bounds(value):
        raise column.out_of_bounds(line, shown)
    return value


def _shown(value: object) -> str:
    if isinstance(value, _Pairs):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return shortened(repr(value))
