"""An order-independent checksum over output rows, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.sources.base import Columns

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS: Final = (
    (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)),
    (np.uint64(27), np.uint64(0x94D049BB133111EB)),
)
_LAST_SHIFT: Final = np.uint64(31)
MODULUS = 1 << 64


_BLOCK_ROWS: Final = 8_192
"""Rows that are hashed at once: their hashes stay in the processor's cache, and the GIL is released
for long enough."""


def rows_checksum(item_ids: npt.NDArray[np.int64], columns: Columns) -> int:
    """Sum over rows, modulo 2**64, of a hash of (item_id, the bits of every column's value).

    `item_ids` int64[n]; `columns` arrays of length n with values of 1, 2, 4 or 8 bytes, hashed in
    the order of their names; a value of fewer than 8 bytes is filled up with zero bits. Every NaN
    counts as the same one: its sign and payload depend on the processor and on the order of
    operands. Two results with the same rows to the bit have the same checksum, independent of order
    and batches: sums of batches add up.
    """
    total = 0
    for start in range(0, len(item_ids), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        hashes = _row_hashes(item_ids[part], {name: c[part] for name, c in columns.items()})
        total += int(np.add.reduce(hashes, dtype=np.uint64))
    return total % MODULUS


def rows_checksums(
    item_ids: npt.NDArray[np.int64],
    columns: Columns,
    failed: npt.NDArray[np.bool_],
    counts: Sequence[int],
) -> list[int]:
    """Return the checksum of each group of rows; there are `counts` rows in each, one group after
    another, and at least one. The rows of `failed` items do not count.
    """
    hashes = _row_hashes(item_ids, columns)
    hashes[failed] = 0
    starts = np.cumsum([0, *counts[:-1]])
    checksums: list[int] = np.add.reduceat(hashes, starts, dtype=np.uint64).tolist()
    return checksums


def _row_hashes(item_ids: npt.NDArray[np.int64], columns: Columns) -> npt.NDArray[np.uint64]:
    spare = np.empty(len(item_ids), dtype=np.uint64)
    hashes = _bits(item_ids).copy()
    _mix(hashes, spare)
    for name in sorted(columns):
        hashes ^= _bits(columns[name])
        _mix(hashes, spare)
    return hashes


def _mix(bits: npt.NDArray[np.uint64], spare: npt.NDArray[np.uint64]) -> None:
    """Replace each element by the SplitMix64 finaliser of it (Steele, Lea, Flood, OOPSLA 2014).
    `spare` is overwritten.
    """
    bits += _GOLDEN_GAMMA
    for shift, factor in _ROUNDS:
        bits ^= np.right_shift(bits, shift, out=spare)
        bits *= factor
    bits ^= np.right_shift(bits, _LAST_SHIFT, out=spare)


def _bits(column: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return the bits of the values; a column of 8 bytes each is not copied."""
    if column.dtype.kind == "f" and np.isnan(column).any():
        column = np.where(np.isnan(column), column.dtype.type(np.nan), column)
    bits: npt.NDArray[Any] = np.ascontiguousarray(column).view(f"u{column.itemsize}")
    return bits.astype(np.uint64, copy=False)


def checksum_text(checksum: int) -> str:
    """Return a checksum as 16 hexadecimal digits."""
    return f"{checksum % MODULUS:016x}"
