"""Values that a dependency answered, into the columns of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.app.sources.row_columns import shortened
from hotloop.kernels import Column, get_workload

_SHOWN_BITS: Final = 128


@lru_cache(maxsize=16)  # asked for with every call of a stage
def mapped_columns(
    workload: str, fields: tuple[tuple[str, str], ...]
) -> tuple[tuple[Column, str], ...]:
    """The workload's columns with the field that each is read from. KeyError for an unknown one."""
    columns = {column.name: column for column in get_workload(workload).columns_in}
    return tuple((columns[name], field) for name, field in fields)


def assign(
    batch: ItemBatch, positions: Positions, column: Column, values: Sequence[object], stage: str
) -> None:
    """Put `values[i]` at `positions[i]` of the column. What is no value of the column fails its
    item instead: text, NaN, an infinity, a missing value, a fraction for an integer, a number out
    of bounds, a list of another length than the column's width.
    """
    array = _array(column, values)
    if array is not None:
        batch.columns[column.name][_index(positions)] = array
        return
    for position, value in zip(positions, values, strict=True):
        one = _array(column, [_whole(value) if column.is_integer else value])
        if one is None:
            batch.fail(position, stage, f"{column.name} is {_shown(value)}; {_wanted(column)}")
        else:
            batch.columns[column.name][position] = one[0]


def _array(column: Column, values: Sequence[Any]) -> npt.NDArray[Any] | None:
    """Return the values as an array for the column; None if any is no value of it."""
    if column.width is not None:
        if any(type(value) is not list or len(value) != column.width for value in values):
            return None
        kinds = set(map(type, chain.from_iterable(values)))
    else:
        kinds = set(map(type, values))
    if not kinds <= _kinds(column):
        return None
    try:
        # Every number would be a boolean.
        array = np.array(values, dtype="int64" if column.is_bool else column.dtype)
    except OverflowError:
        return None
    least, greatest = column.limits
    if not ((array >= least) & (array <= greatest)).all():
        return None
    array = array.astype(column.dtype, copy=False)
    return array if column.width is None else array.reshape(-1, column.width)


def _kinds(column: Column) -> set[type]:
    if column.is_bool:
        return {bool, int}
    return {int} if column.is_integer else {int, float}


def _whole(value: Any) -> Any:
    """Return a float without a fraction as an integer, and the same for the values of a list."""
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length():,} bits"  # Python refuses to write it out
    if isinstance(value, list) and len(value) > 1:
        return f"a list of {len(value):,} values"  # its integers may be long, too
    return "missing" if value is None else shortened(repr(value))


def _wanted(column: Column) -> str:
    if column.is_bool:
        one, many, bounds = "true or false", "booleans", ""
    else:
        one, many = ("an integer", "integers") if column.is_integer else ("a number", "numbers")
        least, greatest = column.limits
        bounds = f" from {least:,.15g} to {greatest:,.15g}"
    kind = one if column.width is None else f"a list of {column.width:,} {many}"
    return f"{kind}{bounds} is needed"


def _index(positions: Positions) -> slice | list[int]:
    if isinstance(positions, range):
        return slice(positions.start, positions.stop)
    return list(positions)


def ids_at(batch: ItemBatch, positions: Positions) -> list[int]:
    """The ids of the items, in the order of `positions`."""
    ids: list[int] = batch.item_ids[_index(positions)].tolist()
    return ids
