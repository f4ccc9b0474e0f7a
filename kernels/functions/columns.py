"""The kinds of values that a user's function takes and returns, as a declaration has them.

The same classes stand for columns, parameters and outputs; each place refuses in words what has no
meaning there.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hotloop.kernels.column import Column
from hotloop.kernels.contract import Parameter, Value
from hotloop.kernels.contract import Scratch as DeclaredScratch
from hotloop.kernels.errors import WorkloadError
from hotloop.kernels.expressions import evaluate

__all__ = ["Bool", "Choice", "FileSample", "Float", "Integer", "Kind", "Scratch"]

Sample = Callable[[NDArray[np.int64]], Any] | str | Path
"""How values are made up: a function of the items' ids, or the path of a `.npy` file."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_RESERVED: Final = {"item_id", "error", "stage", "failed", "reason"}
_SCRATCH_DTYPES: Final = ("float64", "int64", "bool")
MOST_WIDTH: Final = 100_000
"""Values of an item in one column."""


@dataclass(frozen=True, slots=True)
class Float:
    """A floating-point number; `minimum` and `maximum` are both inclusive.

    `default` is for parameters. `dtype` (`float64` or `float32`), `width` (the number of values of
    an item) and `sample` are for columns; `ulp`, the largest distance of a compiled kernel from
    `python` in units in the last place, is for outputs.
    """

    minimum: float | None = None
    maximum: float | None = None
    _: KW_ONLY
    default: float | None = None
    dtype: str = "float64"
    width: int | None = None
    unit: str | None = None
    description: str | None = None
    sample: Sample | None = None
    ulp: int = 0


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer; `minimum` and `maximum` are both inclusive.

    `default` is for parameters. `dtype` (`int8` to `int64`, `uint8` to `uint64`), `width` and
    `sample` are for columns.
    """

    minimum: int | None = None
    maximum: int | None = None
    _: KW_ONLY
    default: int | None = None
    dtype: str = "int64"
    width: int | None = None
    unit: str | None = None
    description: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Bool:
    """True or false. `default` is for parameters, `width` and `sample` are for columns."""

    _: KW_ONLY
    default: bool | None = None
    width: int | None = None
    description: str | None = None
    sample: Sample | None = None


@dataclass(frozen=True, slots=True, init=False)
class Choice:
    """A parameter that is one of some texts or numbers, by default the first."""

    values: tuple[str | int | float, ...]
    default: str | int | float | None = None
    description: str | None = None

    def __init__(
        self,
        *values: str | int | float,
        default: str | int | float | None = None,
        description: str | None = None,
    ) -> None:
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "description", description)


@dataclass(frozen=True, slots=True, init=False)
class Scratch:
    """An array in which the function may write while it computes one item.

    Each element of `shape` is an expression of parameters. The array's values mean nothing before.
    """

    dtype: str
    shape: tuple[str, ...]

    def __init__(self, dtype: str, *shape: str | int) -> None:
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "shape", tuple(map(str, shape)))


@dataclass(frozen=True, slots=True)
class FileSample:
    """Makes values up from the rows of a `.npy` file, which are repeated."""

    path: Path

    def __call__(self, item_ids: NDArray[np.int64]) -> Any:
        """Return the rows for ids, int64 of shape (n,)."""
        values = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return values[item_ids % len(values)]


Kind = Float | Integer | Bool | Choice


def check_name(name: str, noun: str) -> None:
    """Raise `WorkloadError` for a name that cannot stand in a header, a body and in Python."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise WorkloadError(
            f"{noun} {name!r} needs a name of letters, digits and underscores, at most 64, that "
            "begins with a letter and is no word of Python"
        )
    if name in _RESERVED:
        raise WorkloadError(f"{noun} {name!r} has a name that results use; choose another name")


def input_column(name: str, kind: Kind, folder: Path) -> Column:
    """Return a declared input column. `folder` is where a file of samples is looked for.

    Raises `WorkloadError`.
    """
    if isinstance(kind, Choice):
        raise WorkloadError(f"column {name!r} cannot be a Choice; only parameters can")
    if kind.default is not None:
        raise WorkloadError(
            f"column {name!r} cannot have a default; every item has a value for it. Make it a "
            "parameter, or leave the default out"
        )
    if isinstance(kind, Float) and kind.ulp:
        raise WorkloadError(f"column {name!r} cannot have `ulp`, which is for outputs")
    if kind.width is not None and not 1 <= kind.width <= MOST_WIDTH:
        raise WorkloadError(
            f"column {name!r} must have a width from 1 to {MOST_WIDTH:,}, not {kind.width}"
        )
    sampler = None if kind.sample is None else _sampler(name, kind.sample, folder)
    return _column(
        name, kind, width=kind.width, sample=sampler and sampler[0], sampler=sampler and sampler[1]
    )


def output_column(name: str, kind: Kind) -> Column:
    """Return a declared output column. Raises `WorkloadError`."""
    if isinstance(kind, Choice):
        raise WorkloadError(f"output {name!r} cannot be a Choice; use Integer for a number of it")
    for unused in ("default", "width", "sample"):
        if getattr(kind, unused) is not None:
            raise WorkloadError(f"output {name!r} cannot have `{unused}`, which is for inputs")
    ulp = kind.ulp if isinstance(kind, Float) else 0
    if not 0 <= ulp <= 1 << 52:
        raise WorkloadError(f"output {name!r} must have an `ulp` of at least 0, not {ulp}")
    return _column(name, kind, ulp=ulp)


def parameter(name: str, kind: Kind, default: Any) -> Parameter:
    """Return a declared parameter; `default` is that of the function's argument, or None.

    Raises `WorkloadError`.
    """
    for unused in ("width", "sample", "ulp"):
        if getattr(kind, unused, None):
            raise WorkloadError(f"parameter {name!r} cannot have `{unused}`, which is for columns")
    if isinstance(kind, Choice):
        return _choice(name, kind, default)
    chosen = default if kind.default is None else kind.default
    if chosen is None:
        raise WorkloadError(
            f"parameter {name!r} needs a default: {type(kind).__name__}(default=...), or "
            f"`{name}=...` in the function"
        )
    description = kind.description or name
    if isinstance(kind, Bool):
        if not isinstance(chosen, bool):
            raise WorkloadError(f"parameter {name!r} must have the default True or False")
        return Parameter(name, chosen, None, None, description, "bool")
    dtype = "float64" if isinstance(kind, Float) else "int64"
    if kind.dtype != dtype:
        raise WorkloadError(f"parameter {name!r} must be {dtype}, not {kind.dtype}")
    least, greatest = _column(name, kind).limits
    is_number = type(chosen) is int or (type(chosen) is float and isinstance(kind, Float))
    if not is_number or not least <= chosen <= greatest:
        raise WorkloadError(
            f"parameter {name!r} must have a default from {least} to {greatest}, not {chosen!r}"
        )
    chosen = float(chosen) if isinstance(kind, Float) else chosen
    return Parameter(name, chosen, least, greatest, description, dtype, kind.unit)


def _choice(name: str, kind: Choice, default: Any) -> Parameter:
    values: tuple[Value, ...] = kind.values
    chosen = kind.default if kind.default is not None else default
    chosen = values[0] if values and chosen is None else chosen
    # What is not finite could not be sent or shown as JSON.
    is_fine = all(
        isinstance(value, str)
        or (isinstance(value, int | float) and type(value) is not bool and isfinite(value))
        for value in values
    )
    if not is_fine or len(set(values)) != len(values) or chosen not in values:
        raise WorkloadError(
            f"parameter {name!r} must be a Choice of different texts or numbers, and its default "
            f"one of them, not {chosen!r} of {values!r}"
        )
    return Parameter(name, chosen, None, None, kind.description or name, "choice", choices=values)


def scratch_array(name: str, kind: Scratch, defaults: dict[str, Any]) -> DeclaredScratch:
    """Return a declared scratch array. Raises `WorkloadError`."""
    if not isinstance(kind, Scratch) or not kind.shape:
        raise WorkloadError(
            f'scratch {name!r} must be hotloop.Scratch(dtype, shape...), as in Scratch("float64", '
            '"steps + 2")'
        )
    if kind.dtype not in _SCRATCH_DTYPES:
        raise WorkloadError(
            f"scratch {name!r} must be one of {', '.join(_SCRATCH_DTYPES)}, in which functions "
            f"compute, not {kind.dtype!r}"
        )
    try:
        for each in kind.shape:
            evaluate(each, defaults)
    except ValueError as error:
        raise WorkloadError(f"scratch {name!r}: {error}") from None
    return DeclaredScratch(name, kind.dtype, kind.shape)


def _column(name: str, kind: Float | Integer | Bool, **more: Any) -> Column:
    is_bool = isinstance(kind, Bool)
    minimum = None if isinstance(kind, Bool) else kind.minimum
    maximum = None if isinstance(kind, Bool) else kind.maximum
    for bound in (minimum, maximum):
        is_number = type(bound) is int or (type(bound) is float and isinstance(kind, Float))
        if bound is not None and not (is_number and isfinite(bound)):
            raise WorkloadError(f"{name!r} cannot have the bound {bound!r}; give a finite number")
    try:
        made = Column(
            name,
            "bool" if isinstance(kind, Bool) else kind.dtype,
            kind.description or name,
            minimum,
            maximum,
            None if isinstance(kind, Bool) else kind.unit,
            **more,
        )
    except ValueError as error:
        raise WorkloadError(str(error)) from None
    if not is_bool and made.is_integer != isinstance(kind, Integer):
        raise WorkloadError(
            f"{name!r} is declared as {type(kind).__name__} and cannot be {kind.dtype!r}"  # type: ignore[union-attr]
        )
    least, greatest = made.limits
    own = Column(name, made.dtype, "").limits
    if not own[0] <= least <= greatest <= own[1]:
        raise WorkloadError(
            f"{name!r} must have bounds in rising order that {made.dtype} can hold, not {least} "
            f"and {greatest}"
        )
    return made


def _sampler(
    name: str, sample: Sample, folder: Path
) -> tuple[str, Callable[[NDArray[np.int64]], Any]]:
    """Return how the values of a column are made up: in words, and as a function of ids."""
    if callable(sample):
        return f"the function {getattr(sample, '__qualname__', type(sample).__name__)}", sample
    path = folder / sample
    if path.suffix != ".npy":
        raise WorkloadError(
            f"column {name!r} must have a function or a .npy file as `sample`, not {str(sample)!r}"
        )

    return f"the file {path.name}", FileSample(path)
