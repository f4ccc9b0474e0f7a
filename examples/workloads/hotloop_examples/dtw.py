"""Dynamic time warping: how far apart two series are, if time may stretch."""

from collections.abc import MutableSequence, Sequence
from math import inf

import hotloop

SERIES = hotloop.Float(-1e6, 1e6, width=64)


@hotloop.workload(
    columns={"left": SERIES, "right": SERIES},
    outputs={"distance": hotloop.Float(0.0)},
    scratch={"row": hotloop.Scratch("float64", "64")},
)
def dtw(left: Sequence[float], right: Sequence[float], row: MutableSequence[float]) -> float:
    """Sum of absolute differences along the cheapest path through two series of 64 values."""
    for column in range(len(right)):
        row[column] = inf
    cell = inf
    for line in range(len(left)):
        corner = 0.0 if line == 0 else inf
        cell = inf
        for column in range(len(right)):
            above = row[column]
            least = above if above < corner else corner
            cell = abs(left[line] - right[column]) + (cell if cell < least else least)
            row[column] = cell
            corner = above
    return cell
