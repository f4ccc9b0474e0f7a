"""Proofs, without the check, that a kernel is right or wrong: inputs, runs and comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from types import ModuleType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.check.bases import Base, Value

Columns = dict[str, NDArray[Any]]

NAN_OR_LARGE: Final = (np.nan, 1e9)
ZEROS: Final = (0.0, 0.0)


class Bench:
    """A module and its base: makes items, and runs the scalar function and the batch kernel."""

    def __init__(self, base: Base, module: ModuleType) -> None:
        self.base = base
        self.batch: Callable[..., None] = module.batch
        self.module = module

    @cached_property
    def scalar(self) -> Callable[..., Any]:
        return getattr(self.module, self.base.name)  # type: ignore[no-any-return]

    def items(self, count: int, seed: int = 1) -> Columns:
        """Draw items: columns with a sampler from it, the others evenly within their bounds."""
        rng = np.random.default_rng(seed)
        drawn = {}
        for column in self.base.inputs:
            values = column.draw(rng, count)
            if column.sample is not None:
                sampler = getattr(self.module, column.sample)
                ids = rng.integers(0, 10**6, count)
                values = np.asarray(sampler(ids)).astype(column.dtype)
            drawn[column.name] = values
        return drawn

    def edges(self) -> Columns:
        """Make items at the bounds, at zeros, and with columns or elements that are equal."""
        rng = np.random.default_rng(2)
        inputs = self.base.inputs
        rows: list[list[Any]] = [
            list(row)
            for row in itertools.islice(itertools.product(*(c.edges for c in inputs)), 600)
        ]
        for place, column in enumerate(inputs):
            for edge in column.edges:
                for _ in range(6):
                    row = [c.draw(rng, 1)[0] for c in inputs]
                    row[place] = edge
                    rows.append(row)
        for one, two in itertools.combinations(range(len(inputs)), 2):
            a, b = inputs[one], inputs[two]
            if (a.dtype, a.width) == (b.dtype, b.width) and max(a.low, b.low) < min(a.high, b.high):
                for _ in range(6):
                    row = [c.draw(rng, 1)[0] for c in inputs]
                    row[one] = row[two] = np.clip(row[one], max(a.low, b.low), min(a.high, b.high))
                    rows.append(row)
        # Vectors of equal elements.
        rows += [[c.draw(rng, 1).flat[0] for c in inputs] for _ in range(6)]
        return {
            column.name: np.ascontiguousarray(
                np.stack([np.broadcast_to(row[place], column.width or ()) for row in rows])
            ).astype(column.dtype)
            for place, column in enumerate(inputs)
        }

    def parameter_sets(self) -> Iterator[dict[str, Value]]:
        """The defaults, each parameter at its bounds or other values, and a few in between."""
        defaults = self.base.defaults
        yield defaults
        for parameter in self.base.given:
            for value in parameter.values:
                if value != parameter.default:
                    yield {**defaults, parameter.name: value}
        rng = np.random.default_rng(3)
        for _ in range(3 if defaults else 0):
            drawn = dict(defaults)
            for parameter in self.base.given:
                if parameter.kind in ("int", "float"):
                    low, high = map(float, parameter.values)
                    value = low + rng.random() ** 2 * (high - low)
                    drawn[parameter.name] = int(value) if parameter.kind == "int" else value
                else:
                    drawn[parameter.name] = parameter.values[rng.integers(len(parameter.values))]
            yield drawn

    def run(
        self,
        columns: Columns,
        parameters: Mapping[str, Value],
        fill: tuple[float, float] = NAN_OR_LARGE,
    ) -> Columns:
        """Call the batch kernel; outputs and scratch hold `fill`, for floats and for integers."""
        call, outputs = self.prepared(columns, parameters, fill)
        call()
        return outputs

    def prepared(
        self,
        columns: Columns,
        parameters: Mapping[str, Value],
        fill: tuple[float, float] = NAN_OR_LARGE,
    ) -> tuple[Callable[[], None], Columns]:
        """Return a call of the batch kernel, and the arrays for its outputs."""
        count = len(next(iter(columns.values())))
        outputs = {o.name: _filled((count,), o.dtype, fill) for o in self.base.results}
        arguments = (
            *(_read_only(column) for column in columns.values()),
            *parameters.values(),
            *outputs.values(),
            *self.scratch(parameters, fill),
        )
        return partial(self.batch, *arguments), outputs

    def scratch(
        self, parameters: Mapping[str, Value], fill: tuple[float, float] = NAN_OR_LARGE
    ) -> list[NDArray[Any]]:
        """Scratch arrays with room behind them, as some kernels write there."""
        arrays = []
        for _, dtype, shape in self.base.arrays:
            sizes = [int(eval(each, {}, dict(parameters))) for each in shape]
            room = _filled((int(np.prod(sizes)) + 64,), dtype, fill)
            arrays.append(room[: int(np.prod(sizes))].reshape(sizes))
        return arrays

    def expected(
        self, columns: Columns, parameters: Mapping[str, Value]
    ) -> tuple[Columns, NDArray[np.bool_]]:
        """Call the scalar function on every item; also return True for those that raise."""
        count = len(next(iter(columns.values())))
        outputs = {o.name: _filled((count,), o.dtype, ZEROS) for o in self.base.results}
        raised = np.zeros(count, np.bool_)
        for row in range(count):
            item = [
                column[row].item() if column.ndim == 1 else memoryview(column[row].data)
                for column in columns.values()
            ]
            arrays = [memoryview(array.data) for array in self.scratch(parameters)]
            try:
                values = self.scalar(*item, *parameters.values(), *arrays)
                values = values if isinstance(values, tuple) else (values,)
                for output, value in zip(outputs.values(), values, strict=True):
                    output[row] = value
            except (ArithmeticError, ValueError):
                raised[row] = True
        return outputs, raised

    def wrong(self, columns: Columns, parameters: Mapping[str, Value]) -> NDArray[np.bool_]:
        """Return bool (n,): True for items with an output further off than it may be, and for
        those where only one of function and kernel raises.
        """
        wanted, raised = self.expected(columns, parameters)
        try:
            got = self.run(columns, parameters)
        except Exception:
            if len(raised) == 1:
                return ~raised
            parts = (head(columns, 1, row) for row in range(len(raised)))
            return np.concatenate([self.wrong(part, parameters) for part in parts])
        return raised | self.differ(wanted, got, exact=False)

    def differ(self, one: Columns, two: Columns, *, exact: bool = True) -> NDArray[np.bool_]:
        """Return bool (n,): True for items with different outputs, or further off than allowed."""
        found: Any = False
        for output in self.base.results:
            ulp = 0 if exact else output.ulp
            found = found | ~within(one[output.name], two[output.name], ulp)
        return found  # type: ignore[no-any-return]


def within(wanted: NDArray[Any], got: NDArray[Any], ulp: int) -> NDArray[np.bool_]:
    """Return True where both are NaN, of equal bits, or at most `ulp` steps apart."""
    with np.errstate(invalid="ignore"):
        equal = (wanted == got) | ((wanted != wanted) & (got != got))
        if wanted.dtype.kind != "f":
            return equal  # type: ignore[no-any-return]
        if ulp == 0:
            equal &= (np.signbit(wanted) == np.signbit(got)) | (wanted != wanted)
        else:
            equal |= np.abs(wanted - got) <= ulp * np.spacing(np.abs(wanted))
    return equal  # type: ignore[no-any-return]


def head(columns: Columns, count: int, start: int = 0) -> Columns:
    return {name: column[start : start + count].copy() for name, column in columns.items()}


def joined(*parts: Columns) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _filled(shape: tuple[int, ...], dtype: str, fill: tuple[float, float]) -> NDArray[Any]:
    if dtype == "bool":
        return np.full(shape, bool(fill[1]), dtype)
    if dtype.startswith("float"):
        return np.full(shape, fill[0], dtype)
    return np.full(shape, min(int(fill[1]), np.iinfo(dtype).max), dtype)


def _read_only(column: NDArray[Any]) -> NDArray[Any]:
    view = column.view()
    view.flags.writeable = False
    return view
