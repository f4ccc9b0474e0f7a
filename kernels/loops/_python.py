"""The `python` kernel of `loops`: the specification, and the baseline of every comparison.

Both functions take whole columns that were validated before: 1-D, aligned, contiguous, of equal
length n, in the bounds that the workload declares. They fill `out` and return nothing.
"""

from collections.abc import Mapping
from math import cos, sin, sqrt
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

INSTRUCTION_SETS: Final[Mapping[str, object]] = MappingProxyType({})


def warm_up() -> None:
    """Do nothing: this kernel is ready once imported."""


def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None:
    """Fill `out` (float64, shape (n,)) with the floating-point loop of each item.

    `value` is float64 of shape (n,), in radians, finite, from 0 to 1e6; `cpu_iterations` is from 0
    to 10,000,000. Arithmetic is IEEE 754 binary64, each operation rounded on its own, from left to
    right, the additions in rising order of i.
    """
    for index, start in enumerate(value.tolist()):
        acc = 0.0
        for i in range(cpu_iterations):
            t = start + i
            acc += sqrt(t) * sin(t) * cos(t)
        out[index] = acc


def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None:
    """Fill `out` (int64, shape (n,)) with the nested integer loop of each item.

    `offset` is int64 of shape (n,), from 0 to 2**31 - 1; both counts are from 0 to 100,000 and
    their product is at most 1e9. Integers are exact: no term reaches 2**34, no sum 2**40.
    """
    for index, start in enumerate(offset.tolist()):
        total = 0
        for i in range(outer_iterations):
            for j in range(inner_iterations):
                total += (i * j + start) % 1000
        out[index] = total
