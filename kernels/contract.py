"""The contract of a workload: its columns, its parameters, and how its kernels must agree.

A workload is declared once, as plain data; request models, uploads, options, forms and tables are
made from it. It consists of *terms*. Every kernel implements a term as one function named after
it, called once for a whole batch as `term(*input columns, *parameters, *output columns)`.

Parity, for the kernels of one workload:

1. Integer columns are equal in all kernels.
2. A float column of a compiled kernel differs from the `python` kernel by at most
   `4 * 2**-52 * sum(|addend|)` over the addends of its sum, if the column declares how to compute
   that sum (`magnitude`). Otherwise it is equal.
3. All kernels but `python` are equal bit for bit.
4. A kernel gives an item the same bits whatever else is in the batch, whatever its size, and
   whatever instruction set was chosen at run time.
5. All accept the same inputs, refuse others with the same error type and text, return the same
   dtypes and shapes, and leave their input unmodified.

This module does not import numpy: the command line shows the help of a workload's options without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from math import prod
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final

from hotloop.kernels.errors import InvalidColumnError, InvalidParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "PARITY_FACTOR",
    "REFERENCE",
    "Column",
    "Implementation",
    "Parameter",
    "ProductBound",
    "Term",
    "Workload",
    "parity_faults",
]

REFERENCE: Final = "python"
"""The kernel that every workload has: its specification, and the baseline of comparisons."""

PARITY_FACTOR: Final = 4 * 2.0**-52
"""Largest distance of a compiled kernel's float from that of `python`, in `sum(|addend|)`."""

_DTYPE: Final = re.compile(r"(u?int)(8|16|32|64)|(float)(32|64)")
_LARGEST_FLOAT: Final = {32: (2 - 2.0**-23) * 2.0**127, 64: (2 - 2.0**-52) * 2.0**1023}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a batch: a 1-D array with a value for every item.

    `dtype` is the name of a numpy dtype, an integer or a float of at most 8 bytes; another one is
    a ValueError. `minimum` and `maximum` are both inclusive; a column without bounds has None.
    `examples` are values for the documentation.

    A simulated item has the value `item_id % simulated_modulus`, or without a modulus a value
    within the bounds that depends on its id alone. `magnitude`, of a float output, names the
    function that computes `sum(|addend|)` as `module:function`; it takes the input columns and the
    parameters, both by name, and returns float64 of shape (n,).
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

    def __post_init__(self) -> None:
        if not _DTYPE.fullmatch(self.dtype):
            raise ValueError(
                f"column {self.name!r} cannot be {self.dtype!r}; choose an integer of 1 to 8 "
                "bytes, float32 or float64"
            )

    @property
    def is_integer(self) -> bool:
        """Tell integer columns from float columns."""
        return "int" in self.dtype

    @property
    def limits(self) -> tuple[float | int, float | int]:
        """Least and greatest value: the declared bounds, or else those of the dtype. Finite."""
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

    def example(self, row: int = 0) -> float | int:
        """Return a value for the documentation of row `row`; the last example repeats."""
        if self.examples:
            return self.examples[min(row, len(self.examples) - 1)]
        least = self.limits[0] if self.minimum is not None else 0
        return int(least) if self.is_integer else float(least)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that holds for a whole batch; `minimum` and `maximum` are both inclusive.

    `dtype` is `int64` or `float64`.
    """

    name: str
    default: float | int
    minimum: float | int
    maximum: float | int
    description: str
    dtype: str = "int64"
    unit: str | None = None

    @property
    def is_integer(self) -> bool:
        """Tell integer parameters from float parameters."""
        return self.dtype == "int64"


@dataclass(frozen=True, slots=True)
class ProductBound:
    """The product of the named parameters is at most `maximum`."""

    parameters: tuple[str, ...]
    maximum: int


@dataclass(frozen=True, slots=True)
class Term:
    """One function of every kernel, and one part of what an item costs.

    It is called with the input `columns`, then the `parameters`, then the output columns `outputs`,
    which it fills; without `outputs` that is the column with the name of the term.

    For one item it does as many elementary operations as the product of the integer parameters
    `factors`; without `factors` these are all of its parameters. `probe` holds values of the
    factors that are large enough to measure the time of one operation.
    """

    name: str
    columns: tuple[str, ...]
    parameters: tuple[str, ...]
    probe: tuple[int, ...]
    outputs: tuple[str, ...] = ()
    factors: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        # Frozen, so not by assignment.
        if not self.outputs:
            object.__setattr__(self, "outputs", (self.name,))
        if self.factors is None:
            object.__setattr__(self, "factors", self.parameters)

    @property
    def cost_factors(self) -> tuple[str, ...]:
        """The parameters whose product is the number of operations."""
        return self.factors or ()


@dataclass(frozen=True, slots=True)
class Implementation:
    """A kernel of a workload: its name, and the module that has its functions.

    The module has a function for each term, `warm_up()`, and `INSTRUCTION_SETS`: for each
    instruction set an object with the functions, best first; empty if there is nothing to choose.
    `releases_gil` says whether a run lets other Python threads work meanwhile.
    """

    kernel: str
    module: str
    releases_gil: bool = True


@dataclass(frozen=True, slots=True)
class Workload:
    """The declaration of a workload, as data. The first of its `kernels` is the reference."""

    name: str
    description: str
    columns_in: tuple[Column, ...]
    columns_out: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    product_bounds: tuple[ProductBound, ...]
    terms: tuple[Term, ...]
    kernels: tuple[Implementation, ...]

    @property
    def idle_parameters(self) -> dict[str, Any]:
        """Parameters under which an item costs as little as possible."""
        factors = {name for term in self.terms for name in term.cost_factors}
        return {p.name: p.minimum if p.name in factors else p.default for p in self.parameters}

    @property
    def probes(self) -> Mapping[str, Mapping[str, Any]]:
        """Parameters for each term under which the other terms do as little as possible."""
        idle = self.idle_parameters
        return {
            term.name: idle | dict(zip(term.cost_factors, term.probe, strict=True))
            for term in self.terms
        }

    def resolve_parameters(self, given: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Return every parameter as a Python int or float, with defaults for those left out.

        Python and numpy numbers are accepted, booleans are not; a float is not accepted for an
        integer parameter. Raises `InvalidParameterError`; when a product is too large its `field`
        is the first factor.
        """
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            raise InvalidParameterError(
                "parameters",
                f"parameters must be a mapping from names to numbers, not {_kind(given)}",
            )
        known = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in known:
                raise InvalidParameterError(
                    str(name), f"unknown parameter {name!r}; choose from: {', '.join(known)}"
                )
        resolved = {
            parameter.name: _bounded(parameter, given.get(parameter.name, parameter.default))
            for parameter in self.parameters
        }
        for bound in self.product_bounds:
            product = prod(resolved[name] for name in bound.parameters)
            if product > bound.maximum:
                raise InvalidParameterError(
                    bound.parameters[0],
                    f"{' * '.join(bound.parameters)} must be at most {bound.maximum}, "
                    f"not {product}; lower one of them",
                )
        return resolved

    def operations(self, parameters: Mapping[str, object] | None = None) -> Mapping[str, int]:
        """Return the elementary operations that one item costs, by term.

        `parameters` may leave some out, as in `resolve_parameters`, which also names the errors.
        """
        resolved = self.resolve_parameters(parameters)
        return {
            term.name: prod(resolved[name] for name in term.cost_factors) for term in self.terms
        }

    def simulated_columns(self, item_ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the input columns of simulated items, each of shape (n,) and within its bounds.

        `item_ids` is int64 of shape (n,); `Column` says which values they get. Raises
        `InvalidColumnError` for another dtype or shape, and for a column with neither a modulus nor
        bounds.
        """
        import numpy as np

        if (
            not isinstance(item_ids, np.ndarray)
            or item_ids.dtype != np.dtype(np.int64)
            or item_ids.ndim != 1
        ):
            raise InvalidColumnError(
                "item_ids", "item_ids must be a 1-D numpy array of int64 in native byte order"
            )
        columns: dict[str, NDArray[Any]] = {}
        for place, column in enumerate(self.columns_in):
            if column.simulated_modulus is not None:
                # A remainder of numpy is never negative.
                columns[column.name] = (item_ids % column.simulated_modulus).astype(column.dtype)
            elif column.minimum is not None and column.maximum is not None:
                columns[column.name] = _spread(column, item_ids, place)
            else:
                raise InvalidColumnError(
                    column.name, f"column {column.name!r} cannot be simulated; give its values"
                )
        return columns


def parity_faults(
    workload: Workload,
    columns: Mapping[str, NDArray[Any]],
    parameters: Mapping[str, object],
    expected: Mapping[str, NDArray[Any]],
    computed: Mapping[str, NDArray[Any]],
) -> list[str]:
    """Return a line for each item and output column that breaks the parity rule.

    `computed` are the outputs of a compiled kernel, `expected` those of `python`, for the same
    input `columns`; all of shape (n,). Raises `InvalidParameterError`.
    """
    import numpy as np

    resolved = workload.resolve_parameters(parameters)
    faults = []
    for output in workload.columns_out:
        wanted, got = expected[output.name], computed[output.name]
        bounds = np.zeros(len(wanted))
        if output.magnitude is None:
            wrong = (got != wanted) & ~((got != got) & (wanted != wanted))  # NaN
        else:
            module, _, function = output.magnitude.partition(":")
            magnitude = getattr(import_module(module), function)
            bounds = PARITY_FACTOR * magnitude(columns, resolved)
            # Not >, so that NaN is a fault.
            wrong = ~(np.abs(got - wanted) <= bounds)
        faults += [
            f"{output.name} of the item at position {row}: {got[row]} is not within "
            f"{bounds[row]:.3g} of {wanted[row]}"
            for row in np.flatnonzero(wrong)
        ]
    return faults


def _spread(column: Column, item_ids: NDArray[np.int64], place: int) -> NDArray[Any]:
    """Spread values evenly between the bounds, by the golden ratio; other columns differ."""
    import numpy as np

    step = np.uint64(0x9E3779B97F4A7C15 * (2 * place + 1) % 2**64)
    shares = (((item_ids.view(np.uint64) + np.uint64(1)) * step) >> np.uint64(11)) * 2.0**-53
    least, greatest = column.limits
    values: NDArray[Any] = least + shares * (greatest - least)
    if column.is_integer:
        # The sum in integers, as a float has too few bits for large ones.
        steps = np.floor(shares * (float(greatest) - least + 1))
        values = steps.astype(np.uint64) + np.array(least).astype(np.uint64)
    clipped: NDArray[Any] = np.clip(values.astype(column.dtype), least, greatest)
    return clipped


def _bounded(parameter: Parameter, value: object) -> float | int:
    # Nearly always; every call of a kernel comes here.
    if type(value) is int and parameter.minimum <= value <= parameter.maximum:
        return value if parameter.dtype == "int64" else float(value)
    expected = Integral if parameter.is_integer else Real
    bounds = f"from {parameter.minimum} to {parameter.maximum}"
    if isinstance(value, bool) or not isinstance(value, expected):
        kind = "an integer" if parameter.is_integer else "a number"
        raise InvalidParameterError(
            parameter.name,
            f"parameter {parameter.name!r} must be {kind} {bounds}, not {_kind(value)}",
        )
    number: Any = value
    # Compared before it is converted: an integer may be too large for a float.
    if not parameter.minimum <= number <= parameter.maximum:
        raise InvalidParameterError(
            parameter.name, f"parameter {parameter.name!r} must be {bounds}, not {_digits(number)}"
        )
    return int(number) if parameter.is_integer else float(number)


def _digits(number: float | int) -> str:
    # Python refuses to write out integers of thousands of digits.
    if isinstance(number, int) and number.bit_length() > 128:
        return f"an integer of {number.bit_length()} bits"
    return str(number)


def _kind(value: object) -> str:
    return type(value).__name__
