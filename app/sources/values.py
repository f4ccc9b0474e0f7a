"""Values that a dependency answered, into the columns of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.app.sources.row_columns import RowColumn, row_columns, shortened

_SHOWN_BITS: Final = 128


@lru_cache(maxsize=16)  # asked for with every call of a stage
def mapped_columns(
    workload: str, fields: tuple[tuple[str, str], ...]
) -> tuple[tuple[RowColumn, str], ...]:
    """The workload's columns with the field that each is read from. KeyError for an unknown one."""
    columns = {column.name: column for column in row_columns(workload)}
    return tuple((columns[name], field) for name, field in fields)


def assign(
    batch: ItemBatch, positions: Positions, column: RowColumn, values: Sequence[object], stage: str
) -> None:
    """Put `values[i]` at `positions[i]` of the column. What is no number within the column's
    bounds fails its item instead: text, NaN, an infinity, a missing value, a fraction for an
    integer.
    """
    numbers = _all_numbers(column, values)
    if numbers is not None:
        batch.columns[column.name][_index(positions)] = numbers
        return
    good: list[int] = []
    checked: list[float] = []
    for position, value in zip(positions, values, strict=True):
        number = _number(column, value)
        if number is None:
            batch.fail(position, stage, f"{column.name} is {_shown(value)}; {_wanted(column)}")
        else:
            good.append(position)
            checked.append(number)
    batch.columns[column.name][good] = checked


def _all_numbers(column: RowColumn, values: Sequence[object]) -> np.ndarray | None:
    kinds = set(map(type, values))
    if not kinds <= ({int} if column.is_integer else {int, float}):
        return None
    return column.array(values)  # type: ignore[arg-type]  # the kinds were checked


def _number(column: RowColumn, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not column.in_bounds(value) or (column.is_integer and value != int(value)):
        return None
    return int(value) if column.is_integer else float(value)


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length():,} bits"  # Python refuses to write it out
    return "missing" if value is None else shortened(repr(value))


def _wanted(column: RowColumn) -> str:
    kind = "an integer" if column.is_integer else "a number"
    return f"{kind} from {column.minimum:,.15g} to {column.maximum:,.15g} is needed"


def _index(positions: Positions) -> slice | list[int]:
    if isinstance(positions, range):
        return slice(positions.start, positions.stop)
    return list(positions)


def ids_at(batch: ItemBatch, positions: Positions) -> list[int]:
    """The ids of the items, in the order of `positions`."""
    ids: list[int] = batch.item_ids[_index(positions)].tolist()
    return ids
