"""The columns that a row of an upload must have, and the errors for a row that lacks them.

CSV and NDJSON share them: the names and bounds come from the declaration of the workload.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.errors import BadRowError
from hotloop.app.names import ITEM_ID
from hotloop.kernels import get_workload

_SHOWN_CHARACTERS: Final = 40


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column of an upload; `minimum` and `maximum` are inclusive and finite. With a `width` each
    row has that many values.
    """

    name: str
    dtype: str
    is_integer: bool
    minimum: float
    maximum: float
    width: int | None = None
    """Values of a row, if the column has several."""

    @property
    def is_bool(self) -> bool:
        """True for a column of booleans."""
        return self.dtype == "bool"

    def in_bounds(self, number: float) -> bool:
        """Return True if a number is within the bounds; NaN is not."""
        return self.minimum <= number <= self.maximum

    def array(self, values: Sequence[Any]) -> npt.NDArray[Any] | None:
        """Return numbers or booleans as an array of `dtype`, with a row for each `width` of them.

        Returns None if any is not `in_bounds`.
        """
        try:
            array = np.array(values, dtype=self.dtype)
        except OverflowError:
            return None
        if not self.is_bool and not ((array >= self.minimum) & (array <= self.maximum)).all():
            return None
        return array if self.width is None else array.reshape(-1, self.width)

    def array_of(self, values: Sequence[Any]) -> npt.NDArray[Any] | None:
        """Return values that were read from JSON as an array; None if any is not one of the column.

        Values are numbers or booleans, or lists of `width` of them. 1 and 0 count as booleans.
        """
        if self.width is not None:
            if not set(map(type, values)) <= {list} or not set(map(len, values)) <= {self.width}:
                return None
            values = list(chain.from_iterable(values))
        # By type, as True is an instance of int.
        kinds = set(map(type, values))
        if self.is_bool:
            return self.array(values) if kinds <= {bool, int} and set(values) <= {0, 1} else None
        return self.array(values) if kinds <= ({int} if self.is_integer else {int, float}) else None

    def wrong_kind(self, line: int, shown: str) -> BadRowError:
        """Return the error for what is no number, or no boolean."""
        if self.is_bool:
            text = f"{shown} is neither true nor false; write true or false, or 1 or 0"
        elif self.is_integer:
            text = f"{shown} is not an integer; write it in plain digits, like 12"
        else:
            text = f"{shown} is not a number; write it like 12, 0.5 or 1e-3, nothing around it"
        return BadRowError(line, self.name, text)

    def out_of_bounds(self, line: int, shown: str) -> BadRowError:
        kind = "an integer" if self.is_integer else "a number"
        bounds = f"{kind} from {_plain(self.minimum)} to {_plain(self.maximum)}"
        return BadRowError(line, self.name, f"{shown} is out of bounds; give {bounds}")

    def wrong_width(self, line: int, shown: str, form: str) -> BadRowError:
        """Return the error for a vector of another width, or for what is no vector."""
        text = f"has {shown} where {self.width:,} values are needed; {form}"
        return BadRowError(line, self.name, text)


def row_columns(workload: str) -> tuple[RowColumn, ...]:
    """Return `item_id`, from 0 to 2**63 - 1, then the workload's input columns."""
    return tuple(
        RowColumn(column.name, column.dtype, column.is_integer, *column.limits, column.width)
        for column in (ITEM_ID, *get_workload(workload).columns_in)
    )


def check_names(line: int | None, names: Sequence[str], columns: Sequence[RowColumn]) -> None:
    """Raise BadRowError unless `names` has each column's name once, in any order."""
    known = [column.name for column in columns]
    wanted = f"give exactly {', '.join(known)}"
    for name, times in Counter(names).items():
        if name not in known:
            raise BadRowError(line, None, f"unknown column {shortened(repr(name))}; {wanted}")
        if times > 1:
            raise BadRowError(line, name, f"the column appears {times} times; {wanted}")
    for name in known:
        if name not in names:
            raise BadRowError(line, name, f"the column is missing; {wanted}")


def too_many_rows(line: int, max_rows: int, unit: str = "line") -> BadRowError:
    """Return the error for the row after the last one allowed."""
    text = f"is one row more than the {max_rows:,} allowed; send several uploads"
    return BadRowError(line, None, text, unit)


def shortened(text: str, characters: int = _SHOWN_CHARACTERS) -> str:
    """Cut a text to `characters`, for an error."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _plain(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) and abs(bound) < 2**64 else repr(bound)
