"""Plain Numba: the loops of the python kernel under `njit`, with no option that changes bits."""

from math import cos, sin, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True)
def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None:
    """Fill `out` item by item."""
    for index in range(value.shape[0]):
        start = value[index]
        acc = 0.0
        for i in range(cpu_iterations):
            t = start + i
            acc += sqrt(t) * sin(t) * cos(t)
        out[index] = acc


@njit(nogil=True)
def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None:
    """Fill `out` item by item."""
    for index in range(offset.shape[0]):
        start = offset[index]
        total = 0
        for i in range(outer_iterations):
            for j in range(inner_iterations):
                total += (i * j + start) % 1000
        out[index] = total
