"""The contract of a workload: its columns, its parameters, and how its kernels must agree.

A workload is declared once, as plain data; request models, uploads, options, forms and tables are
made from it. Every kernel has the functions that its `calls` name. Each is called once for a whole
batch as `function(*input columns, *parameters, *output columns, *scratch arrays)`. The cost of an
item is a sum of *terms*, each an expression of parameters.

Parity, for the kernels of one workload:

1. Integer and boolean columns are equal in all kernels.
2. A float column of a compiled kernel differs from the `python` kernel by at most
   `4 * 2**-52 * sum(|addend|)` over the addends of its sum, if the column declares how to compute
   that sum (`magnitude`), or by at most `ulp` units in the last place. Otherwise it is equal.
3. All kernels but `python` are equal bit for bit, unless `ulp` is declared.
4. A kernel gives an item the same bits whatever else is in the batch, whatever its size, and
   whatever instruction set was chosen at run time.
5. All accept the same inputs, refuse others with the same error type and text, return the same
   dtypes and shapes, and leave their input unmodified.

This module does not import numpy, so that the command line can show help without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final

from hotloop.kernels.column import Column
from hotloop.kernels.errors import InvalidParameterError
from hotloop.kernels.expressions import evaluate, names_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "REFERENCE",
    "Call",
    "Implementation",
    "Parameter",
    "ProductBound",
    "Scratch",
    "Term",
    "Workload",
    "WorkloadSource",
]

REFERENCE: Final = "python"
"""The kernel that every workload has: its specification, and the baseline of comparisons."""

Value = int | float | bool | str
"""A value of a parameter; only a choice may be a text."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that holds for a whole batch; `minimum` and `maximum` are both inclusive.

    `dtype` is `int64`, `float64`, `bool`, or `choice` for one of `choices`, which are texts or
    numbers; only numbers have bounds.
    """

    name: str
    default: Value
    minimum: float | int | None
    maximum: float | int | None
    description: str
    dtype: str = "int64"
    unit: str | None = None
    choices: tuple[Value, ...] = ()

    @property
    def is_integer(self) -> bool:
        """True for an integer parameter."""
        return self.dtype == "int64"

    @property
    def is_number(self) -> bool:
        """True for an integer or float parameter, False for a boolean one or a choice."""
        return self.dtype in ("int64", "float64")


@dataclass(frozen=True, slots=True)
class ProductBound:
    """The product of the named parameters is at most `maximum`."""

    parameters: tuple[str, ...]
    maximum: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function that every kernel has, and its arguments: the input `columns`, the `parameters`,
    and the output columns `outputs`, which it fills.
    """

    function: str
    columns: tuple[str, ...]
    parameters: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Term:
    """A part of an item's cost: for one item, a kernel does as many elementary operations of this
    kind as the expression `operations` of the parameters says.

    `probe` holds values of parameters with which this term costs enough to be measured and the
    others as little as possible. Without it, the terms are fitted to several measurements.
    """

    name: str
    operations: str
    probe: tuple[tuple[str, int], ...] = ()

    @property
    def factors(self) -> tuple[str, ...]:
        """The parameters on which the term depends."""
        return names_in(self.operations)


@dataclass(frozen=True, slots=True)
class Scratch:
    """A C-contiguous array that a kernel may use while it computes; its values mean nothing before.

    Each call gets its own. `shape` has an expression of the parameters for each dimension.
    """

    name: str
    dtype: str
    shape: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Implementation:
    """A kernel of a workload: its name, and the module that has its functions.

    The module has the functions of the workload's calls, `warm_up()`, and `INSTRUCTION_SETS`: for
    each instruction set an object with the functions, best first; empty if there is nothing to
    choose. For a workload with a source, `module` says in words where the kernel comes from.
    `releases_gil` says whether a run lets other Python threads work meanwhile.
    """

    kernel: str
    module: str
    releases_gil: bool = True


@dataclass(frozen=True, slots=True)
class WorkloadSource:
    """The place of a user's function: what to import, and which version of the code is meant.

    `folder` is appended to the import path; with a `file`, the module is loaded from it. `version`
    is a hash over the code and the declaration, in hexadecimal.
    """

    module: str
    attribute: str
    version: str
    folder: str | None = None
    file: str | None = None

    @property
    def short_version(self) -> str:
        """The first 12 digits of the version, as it is shown and stored."""
        return self.version[:12]


@dataclass(frozen=True, slots=True)
class Workload:
    """The declaration of a workload, as data. The first of its `kernels` is the reference.

    A workload with a `source` is a user's function. If its cost `depends_on_data`, the items decide
    how long they take, and its only term counts items.
    """

    name: str
    description: str
    columns_in: tuple[Column, ...]
    columns_out: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    product_bounds: tuple[ProductBound, ...]
    calls: tuple[Call, ...]
    terms: tuple[Term, ...]
    kernels: tuple[Implementation, ...]
    scratch: tuple[Scratch, ...] = ()
    depends_on_data: bool = False
    source: WorkloadSource | None = None

    @property
    def idle_parameters(self) -> dict[str, Any]:
        """Parameters under which an item costs as little as possible."""
        factors = {name for term in self.terms for name in term.factors}
        return {
            p.name: p.default if p.minimum is None or p.name not in factors else p.minimum
            for p in self.parameters
        }

    @property
    def probes(self) -> Mapping[str, Mapping[str, Any]]:
        """Parameters for each term with a probe; the other terms do as little as possible."""
        idle = self.idle_parameters
        return {term.name: idle | dict(term.probe) for term in self.terms if term.probe}

    def resolve_parameters(self, given: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Return every parameter as a Python value, with defaults for those left out.

        Python and numpy numbers are accepted for numbers, booleans are not; a float is not accepted
        for an integer parameter. Raises `InvalidParameterError`; when a product is too large its
        `field` is the first factor.
        """
        if given is None:
            given = {}
        if not isinstance(given, Mapping):
            raise InvalidParameterError(
                "parameters",
                f"parameters must be a mapping from names to values, not {_kind(given)}",
            )
        known = [parameter.name for parameter in self.parameters]
        for name in given:
            if name not in known:
                raise InvalidParameterError(
                    str(name), f"unknown parameter {name!r}; choose from: {', '.join(known)}"
                )
        resolved: dict[str, Any] = {
            parameter.name: _checked(parameter, given.get(parameter.name, parameter.default))
            for parameter in self.parameters
        }
        for bound in self.product_bounds:
            product: Any = prod(resolved[name] for name in bound.parameters)
            if product > bound.maximum:
                raise InvalidParameterError(
                    bound.parameters[0],
                    f"{' * '.join(bound.parameters)} must be at most {bound.maximum}, "
                    f"not {product}; lower one of them",
                )
        return resolved

    def operations(self, parameters: Mapping[str, object] | None = None) -> Mapping[str, float]:
        """Return the elementary operations that one item costs, by term.

        `parameters` may leave some out, as in `resolve_parameters`, which also names the errors.
        """
        resolved = self.resolve_parameters(parameters)
        return {term.name: _operations(term, resolved) for term in self.terms}

    def simulated_columns(self, item_ids: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the input columns of simulated items, as `hotloop.kernels.simulated` does."""
        from hotloop.kernels.simulated import simulated_columns

        return simulated_columns(self.columns_in, item_ids)


def _operations(term: Term, parameters: Mapping[str, Any]) -> float:
    try:
        return max(0, evaluate(term.operations, parameters))
    except ValueError as error:
        text = f"the cost {term.name!r} of these parameters: {error}"
        raise InvalidParameterError(next(iter(term.factors), term.name), text) from None


def _checked(parameter: Parameter, value: object) -> Value:
    if parameter.dtype == "bool":
        # numpy's booleans are accepted by their name, as numpy is not imported here.
        if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
            return bool(value)
        raise InvalidParameterError(
            parameter.name, f"parameter {parameter.name!r} must be true or false, not {value!r}"
        )
    if parameter.dtype == "choice":
        for choice in parameter.choices:
            if type(value) is type(choice) and value == choice:
                return choice
        choices = ", ".join(map(repr, parameter.choices))
        raise InvalidParameterError(
            parameter.name,
            f"parameter {parameter.name!r} must be one of: {choices}; not {str(value)[:60]!r}",
        )
    return _bounded(parameter, value)


def _bounded(parameter: Parameter, value: object) -> float | int:
    least, greatest = parameter.minimum, parameter.maximum
    # Declared numbers have both bounds.
    assert least is not None
    assert greatest is not None
    # Nearly always; every call of a kernel comes here.
    if type(value) is int and least <= value <= greatest:
        return value if parameter.dtype == "int64" else float(value)
    expected = Integral if parameter.is_integer else Real
    bounds = f"from {least} to {greatest}"
    if isinstance(value, bool) or not isinstance(value, expected):
        kind = "an integer" if parameter.is_integer else "a number"
        raise InvalidParameterError(
            parameter.name,
            f"parameter {parameter.name!r} must be {kind} {bounds}, not {_kind(value)}",
        )
    number: Any = value
    # Compared before it is converted: an integer may be too large for a float.
    if not least <= number <= greatest:
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
