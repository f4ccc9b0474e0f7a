"""An order-independent checksum over output rows, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hotloop.app.sources.base import Columns

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
MODULUS = 1 << 64


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The SplitMix64 finaliser (Steele, Lea, Flood, OOPSLA 2014), element by element."""
    bits = bits + _GOLDEN_GAMMA
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    return bits ^ (bits >> np.uint64(31))


def rows_checksum(item_ids: npt.NDArray[np.int64], columns: Columns) -> int:
    """Sum over rows, modulo 2**64, of a hash of (item_id, the bits of every column's value).

    `item_ids` int64[n]; `columns` arrays of length n with values of 1, 2, 4 or 8 bytes, hashed in
    the order of their names; a value of fewer than 8 bytes is filled up with zero bits. Every NaN
    counts as the same one: its sign and payload depend on the processor and on the order of
    operands. Two results with the same rows to the bit have the same checksum, independent of order
    and batches: sums of batches add up.
    """
    hashes = _mix(_bits(item_ids))
    for name in sorted(columns):
        hashes = _mix(hashes ^ _bits(columns[name]))
    return int(np.add.reduce(hashes, dtype=np.uint64))


def _bits(column: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    if column.dtype.kind == "f" and np.isnan(column).any():
        column = np.where(np.isnan(column), column.dtype.type(np.nan), column)
    bits: npt.NDArray[Any] = np.ascontiguousarray(column).view(f"u{column.itemsize}")
    return bits.astype(np.uint64, copy=False)


def checksum_text(checksum: int) -> str:
    """Return a checksum as 16 hexadecimal digits."""
    return f"{checksum % MODULUS:016x}"
