"""NumPy: one turn of the loop at a time, for all items at once."""

import numpy as np
from numpy.typing import NDArray


def loop(value: NDArray[np.float64], cpu_iterations: int, out: NDArray[np.float64]) -> None:
    """Fill `out` turn by turn."""
    out.fill(0.0)
    for i in range(cpu_iterations):
        t = value + i
        out += np.sqrt(t) * np.sin(t) * np.cos(t)


def nested(
    offset: NDArray[np.int64], outer_iterations: int, inner_iterations: int, out: NDArray[np.int64]
) -> None:
    """Fill `out` turn by turn."""
    out.fill(0)
    for i in range(outer_iterations):
        for j in range(inner_iterations):
            out += (i * j + offset) % 1000
