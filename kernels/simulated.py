"""Simulated items: columns that are made up from the ids of items, always the same for an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.column import Column
from hotloop.kernels.errors import InvalidColumnError

__all__ = ["simulated_columns"]

_UNBOUNDED: Final = 100
"""The largest integer that is made up for a column without an upper bound; floats reach 1."""

_BLOCK: Final = 131_072
"""Values that are made up at once: few enough that the memory for intermediate arrays is used
again, and many enough that threads seldom wait for each other between two steps."""


def simulated_columns(
    columns: Sequence[Column], item_ids: NDArray[np.int64]
) -> dict[str, NDArray[Any]]:
    """Return the columns of simulated items, each of shape (n,), or (n, width).

    `item_ids` is int64 of shape (n,); `Column` says which values they get. Values without a bound
    are made up from 0 to 1, integers from 0 to 100. Raises `InvalidColumnError` for another dtype
    or shape of ids, and for a sampler that raises or returns something else than the column needs.
    """
    if (
        not isinstance(item_ids, np.ndarray)
        or item_ids.dtype != np.dtype(np.int64)
        or item_ids.ndim != 1
    ):
        raise InvalidColumnError(
            "item_ids", "item_ids must be a 1-D numpy array of int64 in native byte order"
        )
    return {
        column.name: _simulated(column, item_ids, place) for place, column in enumerate(columns)
    }


def _simulated(column: Column, item_ids: NDArray[np.int64], place: int) -> NDArray[Any]:
    if column.simulated_modulus is not None:
        # A remainder of numpy is never negative.
        return (item_ids % column.simulated_modulus).astype(column.dtype)
    if column.sample is not None:
        return _sampled(column, item_ids)
    width = column.width or 1
    values = np.empty((len(item_ids), width), dtype=column.dtype)
    rows = max(1, _BLOCK // width)
    for start in range(0, len(item_ids), rows):
        part = item_ids[start : start + rows]
        ids = part[:, np.newaxis] * width + np.arange(width)
        values[start : start + rows] = _spread(column, ids, place)
    return values if column.width is not None else values.reshape(-1)


def _sampled(column: Column, item_ids: NDArray[np.int64]) -> NDArray[Any]:
    if column.sampler is None:
        raise InvalidColumnError(
            column.name, f"column {column.name!r} is made up by code that is not loaded here"
        )
    shape = (len(item_ids),) if column.width is None else (len(item_ids), column.width)
    try:
        values = np.ascontiguousarray(column.sampler(item_ids), dtype=column.dtype)
    except (Exception, SystemExit) as error:  # whatever a user's function raises
        raise InvalidColumnError(
            column.name,
            f"making up column {column.name!r} failed with {type(error).__name__}: {error}",
        ) from error
    if values.shape != shape:
        raise InvalidColumnError(
            column.name,
            f"`sample` of column {column.name!r} returned values of shape {values.shape}, "
            f"not {shape}",
        )
    return values


def _spread(column: Column, ids: NDArray[np.int64], place: int) -> NDArray[Any]:
    """Spread values evenly between the bounds, by the golden ratio; other columns differ."""
    step = np.uint64(0x9E3779B97F4A7C15 * (2 * place + 1) % 2**64)
    shares = (((ids.view(np.uint64) + np.uint64(1)) * step) >> np.uint64(11)) * 2.0**-53
    least, greatest = _made_up_bounds(column)
    if column.is_bool:
        return shares >= 0.5
    values: NDArray[Any] = least + shares * (float(greatest) - float(least))
    if column.is_integer:
        # The sum in integers, as a float has too few bits for large ones.
        steps = np.floor(shares * (float(greatest) - least + 1))
        values = steps.astype(np.uint64) + np.array(least).astype(np.uint64)
    clipped: NDArray[Any] = np.clip(values.astype(column.dtype), least, greatest)
    return clipped


def _made_up_bounds(column: Column) -> tuple[float | int, float | int]:
    """Return the bounds of made-up values: the declared ones, or ones near 0 or the declared."""
    least, greatest = column.limits
    reach = _UNBOUNDED if column.is_integer else 1
    if column.minimum is None and column.maximum is None:
        return max(0, least), min(reach, greatest)
    if column.minimum is None:
        return max(least, greatest - reach), greatest
    return least, greatest if column.maximum is not None else min(greatest, least + reach)
