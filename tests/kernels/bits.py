"""Comparing numbers by their bits, so that -0.0 and NaN count."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def bits(array: NDArray[Any]) -> list[int]:
    """Return the 64 bits of each number as an unsigned integer."""
    return [int(word) for word in array.view(np.uint64)]


def hex_bits(array: NDArray[Any]) -> list[str]:
    return [f"{word:016x}" for word in bits(array)]
