"""A kernel as callers see it: one implementation of a workload, behind the one validation.

An input column is a numpy array of exactly the declared dtype in native byte order, of shape (n,),
or (n, width) for a column with a width; nothing is converted, because a silent conversion could
lose bits. Strided, read-only and misaligned arrays are
accepted. Kernels get contiguous, aligned, read-only views; a copy is made only where the given
memory is not contiguous and aligned. The caller's arrays must not be written to during a run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Final

import numpy as np
from numpy.ma import MaskedArray  # here, because numpy would import it in the first run
from numpy.typing import NDArray

from hotloop.kernels.column import Column
from hotloop.kernels.contract import Scratch, Workload
from hotloop.kernels.errors import InvalidColumnError, InvalidParameterError
from hotloop.kernels.expressions import evaluate, names_in

__all__ = ["Kernel", "checked_inputs", "checked_outputs", "empty_columns", "new_outputs"]

Columns = Mapping[str, NDArray[Any]]

MOST_SCRATCH: Final = 1 << 27
"""Values of a scratch array: a gigabyte of doubles."""

CACHE_LINE: Final = 64
"""Bytes that processors load at once."""

# Number of values up to which comparing Python numbers is quicker than two reductions (2 µs).
FEW = 16


@dataclass(frozen=True, slots=True)
class Kernel:
    """An implementation of `workload`, safe to use from any number of threads.

    `releases_gil` says whether a run lets other Python threads work meanwhile. `instruction_set`
    names the one that was chosen at run time, or is None where there was nothing to choose.
    """

    name: str
    workload: Workload = field(repr=False)
    releases_gil: bool
    instruction_set: str | None
    _functions: tuple[Callable[..., None], ...] = field(repr=False)
    _warm_up: Callable[[], None] = field(repr=False)

    @property
    def functions(self) -> tuple[Callable[..., None], ...]:
        """The functions of the workload's calls, in their order."""
        return self._functions

    def warm_up(self) -> None:
        """Do whatever a first run would have to do (compile), once in this process."""
        self._warm_up()

    def run(
        self,
        columns: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, object] | None = None,
        *,
        out: Mapping[str, NDArray[Any]] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Compute one batch and return its output columns, each of shape (n,).

        `columns` holds the workload's input columns, each of exactly its shape and dtype; n may be
        0, and the arrays are not modified. Parameters left out take their defaults. `out`
        may hold every output column, preallocated; the same arrays are then filled and returned.

        Raises `InvalidParameterError` or `InvalidColumnError` before anything is computed.
        """
        workload = self.workload
        resolved = workload.resolve_parameters(parameters)
        inputs = checked_inputs(workload.columns_in, columns)
        length = len(inputs[workload.columns_in[0].name])
        if out is None:
            results = targets = new_outputs(workload.columns_out, length)
        else:
            targets = checked_outputs(workload.columns_out, out, length, columns)
            results = {name: out[name] for name in targets}
        self.warm_up()
        self.compute(
            inputs, resolved, targets, [new_scratch(each, resolved) for each in workload.scratch]
        )
        return results

    def compute(
        self,
        inputs: Columns,
        parameters: Mapping[str, Any],
        targets: Columns,
        scratch: Sequence[NDArray[Any]],
    ) -> None:
        """Fill `targets`, on arrays and parameters that are as `run` makes them: nothing is checked
        or converted here, and `warm_up` comes before.
        """
        for call, function in zip(self.workload.calls, self._functions, strict=True):
            function(
                *map(inputs.__getitem__, call.columns),
                *map(parameters.__getitem__, call.parameters),
                *map(targets.__getitem__, call.outputs),
                *scratch,
            )


def new_scratch(declared: Scratch, parameters: Mapping[str, Any]) -> NDArray[Any]:
    """Return an uninitialised array for the scratch of one call, which begins at a cache line: a
    kernel that passes through it with vector instructions is up to a fifth slower otherwise.
    Raises as `scratch_shape`.
    """
    shape, dtype = scratch_shape(declared, parameters), np.dtype(declared.dtype)
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + CACHE_LINE, dtype=np.uint8)
    start = -memory.__array_interface__["data"][0] % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def scratch_shape(declared: Scratch, parameters: Mapping[str, Any]) -> list[int]:
    """Return the shape of a scratch array.

    Raises `InvalidParameterError` for a shape that the parameters make negative or too large.
    """
    try:
        shape = [int(evaluate(each, parameters)) for each in declared.shape]
    except ValueError as error:
        text = f"the shape of scratch {declared.name!r}: {error}"
        raise InvalidParameterError(_first_name(declared), text) from None
    if min(shape) < 0 or prod(shape) > MOST_SCRATCH:
        raise InvalidParameterError(
            _first_name(declared),
            f"these parameters give scratch {declared.name!r} the shape {tuple(shape)}; it "
            f"may have up to {MOST_SCRATCH:,} values",
        )
    return shape


def _first_name(declared: Scratch) -> str:
    """Return the parameter that an error about a shape names."""
    return next(iter(names_in(declared.shape[0])), declared.name)


def checked_inputs(declared: Sequence[Column], given: Columns) -> dict[str, NDArray[Any]]:
    """Return a contiguous, aligned, read-only array for each declared column.

    Raises `InvalidColumnError` when a column is missing or unknown, is not of its shape or dtype,
    differs in length from the first one, or holds a value that is not finite or is out of bounds.
    """
    _check_names(declared, given, "column")
    checked: dict[str, NDArray[Any]] = {}
    length: int | None = None
    for column in declared:
        array = _plain_array(column, given[column.name], "column")
        if length is None:
            length = len(array)
        elif len(array) != length:
            raise InvalidColumnError(
                column.name,
                f"column {column.name!r} has {len(array)} values where column "
                f"{declared[0].name!r} has {length}; give columns of equal length",
            )
        _check_bounds(column, array)
        checked[column.name] = _kernel_view(column, array)
    return checked


def empty_columns(declared: Sequence[Column]) -> dict[str, NDArray[Any]]:
    """Return an array without items for each declared column."""
    return {
        column.name: np.empty(
            (0,) if column.width is None else (0, column.width), dtype=column.dtype
        )
        for column in declared
    }


def new_outputs(declared: Sequence[Column], length: int) -> dict[str, NDArray[Any]]:
    """Return an uninitialised array of shape (length,) for each declared column."""
    return {column.name: np.empty(length, dtype=column.dtype) for column in declared}


def checked_outputs(
    declared: Sequence[Column], given: Columns, length: int, inputs: Columns
) -> dict[str, NDArray[Any]]:
    """Return the given output columns as plain arrays over the same memory.

    Raises `InvalidColumnError` when a column is missing or unknown, is not of its dtype or of shape
    (length,), is not C-contiguous, aligned and writable, or overlaps another one or an input.
    """
    _check_names(declared, given, "output column")
    checked: dict[str, NDArray[Any]] = {}
    for column in declared:
        array = _plain_array(column, given[column.name], "output column")
        if len(array) != length:
            raise InvalidColumnError(
                column.name,
                f"output column {column.name!r} has {len(array)} values where the inputs have "
                f"{length}; give an array of shape ({length},)",
            )
        flags = array.flags
        if not (flags.c_contiguous and flags.aligned and flags.writeable):
            raise InvalidColumnError(
                column.name,
                f"output column {column.name!r} must be C-contiguous, aligned and writable; "
                f"give numpy.empty({length}, {column.dtype!r})",
            )
        for name, other in [*inputs.items(), *checked.items()]:
            if np.shares_memory(array, other):
                raise InvalidColumnError(
                    column.name,
                    f"output column {column.name!r} overlaps column {name!r} in memory; "
                    "give each output an array of its own",
                )
        checked[column.name] = array.view(column.dtype)
    return checked


def _check_names(declared: Sequence[Column], given: Columns, noun: str) -> None:
    if not isinstance(given, Mapping):
        raise InvalidColumnError(
            f"{noun}s".replace(" ", "_"),
            f"{noun}s must be a mapping from names to numpy arrays, not {type(given).__name__}; "
            f"give: {_listed(declared)}",
        )
    known = [column.name for column in declared]
    for name in known:
        if name not in given:
            raise InvalidColumnError(name, f"{noun} {name!r} is missing; give: {_listed(declared)}")
    for name in given:
        if name not in known:
            raise InvalidColumnError(
                str(name), f"unknown {noun} {name!r}; give only: {_listed(declared)}"
            )


def _listed(declared: Sequence[Column]) -> str:
    return ", ".join(f"{column.name} ({column.dtype})" for column in declared)


def _plain_array(column: Column, array: object, noun: str) -> NDArray[Any]:
    # A masked array is a numpy array, but its mask would be ignored.
    if not isinstance(array, np.ndarray) or isinstance(array, MaskedArray):
        raise InvalidColumnError(
            column.name,
            f"{noun} {column.name!r} must be a numpy array, not {type(array).__name__}; "
            f"convert it with numpy.array(..., dtype={column.dtype!r})",
        )
    if array.dtype != np.dtype(column.dtype):
        raise InvalidColumnError(
            column.name,
            f"{noun} {column.name!r} must be {column.dtype} in native byte order, "
            f"not {array.dtype.str}; convert it with .astype({column.dtype!r})",
        )
    if column.width is not None and (array.ndim != 2 or array.shape[1] != column.width):
        raise InvalidColumnError(
            column.name,
            f"{noun} {column.name!r} must have the shape (n, {column.width}), not {array.shape}",
        )
    if column.width is None and array.ndim != 1:
        raise InvalidColumnError(
            column.name,
            f"{noun} {column.name!r} must have 1 dimension, not {array.ndim}; "
            "reshape it with .reshape(-1)",
        )
    return np.asarray(array)


def _check_bounds(column: Column, array: NDArray[Any]) -> None:
    if column.width is not None:
        array = array.reshape(-1)
    least, greatest = column.minimum, column.maximum
    if array.size == 0 or (least is None and greatest is None):
        return
    if least is None or greatest is None:
        _check_one_bound(column, array)
        return
    # All comparisons are written so that NaN, which the reductions hand on, fails them.
    # Numpy rounds the bounds to the dtype of smaller floats; Python would not.
    if len(array) <= FEW and array.itemsize == 8:
        for value in array.tolist():
            if not least <= value <= greatest:
                break
        else:
            return
    elif np.minimum.reduce(array) >= least and np.maximum.reduce(array) <= greatest:
        return
    accepted = (array >= least) & (array <= greatest)
    raise _out_of_bounds(column, array, accepted, f"from {least} to {greatest}")


def _check_one_bound(column: Column, array: NDArray[Any]) -> None:
    """Refuse values beyond the only bound of a column, and NaN."""
    if column.minimum is not None:
        accepted, bound = array >= column.minimum, f"at least {column.minimum}"
    else:
        accepted, bound = array <= column.maximum, f"at most {column.maximum}"
    if not accepted.all():
        raise _out_of_bounds(column, array, accepted, bound)


def _out_of_bounds(
    column: Column, array: NDArray[Any], accepted: NDArray[np.bool_], bounds: str
) -> InvalidColumnError:
    index = int(np.argmin(accepted))
    return InvalidColumnError(
        column.name,
        f"column {column.name!r} must be {bounds}, "
        f"not {array[index].item()} at index {index // (column.width or 1)}",
    )


def _kernel_view(column: Column, array: NDArray[Any]) -> NDArray[Any]:
    if not (array.flags.c_contiguous and array.flags.aligned):
        array = array.copy(order="C")
    # A view of the declared dtype also levels equal dtypes with other type codes.
    view = array.view(column.dtype)
    view.setflags(write=False)
    return view
