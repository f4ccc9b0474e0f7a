"""A column of a workload, as it is declared: dtype, bounds, width, and how its values are made up.

This module does not import numpy, so that the command line can show help without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Column"]

_DTYPE: Final = re.compile(r"(u?int)(8|16|32|64)|(float)(32|64)|bool")
_LARGEST_FLOAT: Final = {32: (2 - 2.0**-23) * 2.0**127, 64: (2 - 2.0**-52) * 2.0**1023}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a batch: an array with a value, or `width` values, for every item.

    `dtype` is the name of a numpy dtype: an integer or a float of at most 8 bytes, or `bool`;
    another one is a ValueError. With a `width` the array is 2-D and C-contiguous, of shape
    (n, width). `minimum` and `maximum` are both inclusive; a column without bounds has None.
    `examples` are values for the documentation.

    A simulated item has the value `item_id % simulated_modulus`, or without a modulus a value
    within the bounds that depends on its id alone; where `sample` says in words that the workload
    makes the values up, `sampler` does so from the ids, int64 of shape (n,).

    `magnitude`, of a float output, names the function that computes `sum(|addend|)` as
    `module:function`; it takes the input columns and the parameters, both by name, and returns
    float64 of shape (n,). `ulp` is the largest distance of a compiled kernel from `python`, in
    units in the last place.
    """

    name: str
    dtype: str
    description: str
    minimum: float | int | None = None
    maximum: float | int | None = None
    unit: str | None = None
    examples: tuple[float | int, ...] = ()
    simulated_modulus: int | None = None
    magnitude: str | None = None
    width: int | None = None
    ulp: int = 0
    sample: str | None = None
    sampler: Callable[[NDArray[np.int64]], Any] | None = field(
        default=None, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if not _DTYPE.fullmatch(self.dtype):
            raise ValueError(
                f"column {self.name!r} cannot be {self.dtype!r}; choose an integer of 1 to 8 "
                "bytes, float32, float64 or bool"
            )

    @property
    def is_integer(self) -> bool:
        """Return True for integer columns, False for float and boolean columns."""
        return "int" in self.dtype

    @property
    def is_bool(self) -> bool:
        """Return True for boolean columns."""
        return self.dtype == "bool"

    @property
    def limits(self) -> tuple[float | int, float | int]:
        """Least and greatest value: the declared bounds, or else the dtype's. Finite."""
        if self.is_bool:
            return 0, 1
        bits = int(self.dtype.lstrip("uintfloa"))
        least: float | int
        greatest: float | int
        if not self.is_integer:
            least, greatest = -_LARGEST_FLOAT[bits], _LARGEST_FLOAT[bits]
        elif self.dtype.startswith("u"):
            least, greatest = 0, 2**bits - 1
        else:
            least, greatest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        return (
            least if self.minimum is None else self.minimum,
            greatest if self.maximum is None else self.maximum,
        )

    def example(self, row: int = 0) -> Any:
        """Return a value for the documentation of row `row`, or a list of `width` values; the last
        example repeats.
        """
        value: float | int | bool
        if self.examples:
            value = self.examples[min(row, len(self.examples) - 1)]
        else:
            least, greatest = self.limits
            value = min(max(0, least), greatest)
            value = int(value) if self.is_integer else float(value)
        value = bool(value) if self.is_bool else value
        return value if self.width is None else [value] * self.width
