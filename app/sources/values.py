"""Values that a dependency answered, into the columns of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from hotloop.app.sources.base import ItemBatch, Positions
from hotloop.app.sources.row_columns import RowColumn, row_columns, shortened
from hotloop.app.sources.texts import read_text
from hotloop.kernels import Workload, get_workload

_SHOWN_BITS: Final = 128


def mapped_columns(
    workload: str, fields: tuple[tuple[str, str], ...]
) -> tuple[tuple[RowColumn, str], ...]:
    """The workload's columns with the field that each is read from. KeyError for an unknown one."""
    return _mapped(get_workload(workload), fields)


@lru_cache(maxsize=16)  # asked for with every call of a stage
def _mapped(
    workload: Workload, fields: tuple[tuple[str, str], ...]
) -> tuple[tuple[RowColumn, str], ...]:
    columns = {column.name: column for column in row_columns(workload.name)}
    return tuple((columns[name], field) for name, field in fields)


def assign(
    batch: ItemBatch, positions: Positions, column: RowColumn, values: Sequence[object], stage: str
) -> None:
    """Put `values[i]` at `positions[i]` of the column. What is no value of the column fails its
    item instead: text, NaN, an infinity, a missing value, a fraction for an integer, a number out
    of bounds, a list of another length. Booleans and vectors may be written as `texts` says.
    """
    if column.is_bool or column.width is not None:
        values = [_of_text(column, value) for value in values]
    array = column.array_of(values)
    if array is not None:
        batch.columns[column.name][_index(positions)] = array
        return
    good: list[int] = []
    checked: list[Any] = []
    for position, value in zip(positions, values, strict=True):
        found = _value(column, value)
        if found is None:
            batch.fail(position, stage, _fault(column, value))
        else:
            good.append(position)
            checked.append(found)
    if good:  # numpy does not take an empty list for rows of a vector
        batch.columns[column.name][good] = checked


def _of_text(column: RowColumn, value: object) -> object:
    """Return the value that a text holds; anything else, and other text, unchanged."""
    found = read_text(column, value) if isinstance(value, str) else None
    return value if found is None else found


def _value(column: RowColumn, value: object) -> Any | None:
    if column.width is None:
        return _one(column, value)
    if not isinstance(value, list) or len(value) != column.width:
        return None
    found = [_one(column, each) for each in value]
    return None if None in found else found


def _one(column: RowColumn, value: object) -> float | bool | None:
    if column.is_bool:
        return bool(value) if isinstance(value, int) and value in (0, 1) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not column.in_bounds(value) or (column.is_integer and value != int(value)):
        return None
    return int(value) if column.is_integer else float(value)


def _fault(column: RowColumn, value: object) -> str:
    what = column.name
    wanted = _wanted(column)
    if column.width is not None:
        if not isinstance(value, list):
            return f"{what} is {_shown(value)}; {column.width:,} values are needed"
        if len(value) != column.width:
            return f"{what} has {len(value):,} values; {column.width:,} are needed"
        place = next(n for n, each in enumerate(value) if _one(column, each) is None)
        what, value = f"value {place + 1:,} of {what}", value[place]
    return f"{what} is {_shown(value)}; {wanted}"


def _shown(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        return f"an integer of {value.bit_length():,} bits"  # Python refuses to write it out
    return "missing" if value is None else shortened(repr(value))


def _wanted(column: RowColumn) -> str:
    if column.is_bool:
        return "true or false is needed"
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
