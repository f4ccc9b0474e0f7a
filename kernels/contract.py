"""What a workload promises: its columns, its parameters, and how its kernels must agree.

A workload is declared as plain data and consists of *terms*. Each term fills one output column, and
every kernel implements it as one function named after it, called once for a whole batch as
`term(*input columns, *parameters, out)`.

Parity, for the kernels of one workload:

1. Integer columns are equal in all kernels.
2. A float column of a compiled kernel differs from the `python` kernel by at most
   `4 * 2**-52 * sum(|addend|)` over the addends of its sum.
3. `cython` and `numba` are equal bit for bit.
4. A kernel gives an item the same bits whatever else is in the batch, whatever its size, and
   whatever instruction set was chosen at run time.
5. All accept the same inputs, refuse others with the same error type and text, return the same
   dtypes and shapes, and leave their input unmodified.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.errors import InvalidColumnError, InvalidParameterError

__all__ = ["Column", "KernelName", "Parameter", "ProductBound", "Term", "Workload"]


class KernelName(StrEnum):
    """The implementations a workload may have, the reference first."""

    PYTHON = "python"
    CYTHON = "cython"
    NUMBA = "numba"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a batch: a 1-D array with a value for every item.

    `dtype` is a numpy dtype name. `minimum` and `maximum` are both inclusive; an output column
    without bounds has None. A simulated item has the value `item_id % simulated_modulus`.
    """

    name: str
    dtype: str
    description: str
    minimum: float | int | None = None
    maximum: float | int | None = None
    simulated_modulus: int | None = None


@dataclass(frozen=True, slots=True)
class Parameter:
    """One integer that holds for a whole batch; `minimum` and `maximum` are both inclusive."""

    name: str
    default: int
    minimum: int
    maximum: int
    description: str


@dataclass(frozen=True, slots=True)
class ProductBound:
    """The product of the named parameters is at most `maximum`."""

    parameters: tuple[str, ...]
    maximum: int


@dataclass(frozen=True, slots=True)
class Term:
    """One function of every kernel: it fills the output column of the same name.

    It is called with the input `columns`, then the `parameters`, then the output. For one item it
    does as many elementary operations as the product of its parameters; `probe` holds values of
    those parameters that are large enough to measure the time of one operation.
    """

    name: str
    columns: tuple[str, ...]
    parameters: tuple[str, ...]
    probe: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """What is computed for an item, as data."""

    name: str
    description: str
    columns_in: tuple[Column, ...]
    columns_out: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    product_bounds: tuple[ProductBound, ...]
    terms: tuple[Term, ...]

    @property
    def probes(self) -> Mapping[str, Mapping[str, int]]:
        """For each term, parameters under which this term alone does any work."""
        idle = {parameter.name: 0 for parameter in self.parameters}
        return {
            term.name: idle | dict(zip(term.parameters, term.probe, strict=True))
            for term in self.terms
        }

    def resolve_parameters(self, given: Mapping[str, object] | None = None) -> dict[str, int]:
        """Return every parameter as a Python int, with defaults for those left out.

        Python and numpy integers are accepted; booleans and floats are not. Raises
        `InvalidParameterError`; when a product is too large its `field` is the first factor.
        """
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            raise InvalidParameterError(
                "parameters",
                f"parameters must be a mapping from names to integers, not {_kind(given)}",
            )
        known = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in known:
                raise InvalidParameterError(
                    str(name), f"unknown parameter {name!r}; choose from: {', '.join(known)}"
                )
        resolved = {
            parameter.name: _bounded_integer(
                parameter, given.get(parameter.name, parameter.default)
            )
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
        return {term.name: prod(resolved[name] for name in term.parameters) for term in self.terms}

    def simulated_columns(self, item_ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the input columns of simulated items: `item_id % simulated_modulus` each.

        `item_ids` is int64 of shape (n,); the remainder is never negative. The columns have shape
        (n,) and lie within their bounds. Raises `InvalidColumnError` for another dtype or shape.
        """
        if (
            not isinstance(item_ids, np.ndarray)
            or item_ids.dtype != np.dtype(np.int64)
            or item_ids.ndim != 1
        ):
            raise InvalidColumnError(
                "item_ids", "item_ids must be a 1-D numpy array of int64 in native byte order"
            )
        columns: dict[str, NDArray[Any]] = {}
        for column in self.columns_in:
            if column.simulated_modulus is None:
                raise InvalidColumnError(
                    column.name, f"column {column.name!r} cannot be simulated; give its values"
                )
            columns[column.name] = (item_ids % column.simulated_modulus).astype(column.dtype)
        return columns


def _bounded_integer(parameter: Parameter, value: object) -> int:
    if type(value) is not int and (
        isinstance(value, bool) or not isinstance(value, (int, np.integer))
    ):
        raise InvalidParameterError(
            parameter.name,
            f"parameter {parameter.name!r} must be an integer from {parameter.minimum} "
            f"to {parameter.maximum}, not {_kind(value)}",
        )
    number = int(value)
    if not parameter.minimum <= number <= parameter.maximum:
        raise InvalidParameterError(
            parameter.name,
            f"parameter {parameter.name!r} must be from {parameter.minimum} "
            f"to {parameter.maximum}, not {_digits(number)}",
        )
    return number


def _digits(number: int) -> str:
    # Python refuses to write out integers of thousands of digits.
    if number.bit_length() > 128:
        return f"an integer of {number.bit_length()} bits"
    return str(number)


def _kind(value: object) -> str:
    return type(value).__name__
