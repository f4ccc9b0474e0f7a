"""What modules of own workloads are made of: a base says what is computed, a kernel how.

A base is a workload in short notation. Its `body` is the work on one item, in Python that numba
compiles too: from the names of columns, parameters and scratch arrays to those of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from textwrap import dedent, indent
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Value = int | float | bool | str

_KINDS: Final = {"float": "float64", "int": "int64"}


@dataclass(frozen=True)
class Column:
    """A column in, written as `name dtype [minimum maximum] [*width] [sample=function]`.

    A float column without bounds is drawn from 0 to 1, and may have any value.
    """

    name: str
    dtype: str
    low: float | int
    high: float | int
    width: int | None = None
    sample: str | None = None
    is_bounded: bool = True

    @property
    def is_float(self) -> bool:
        return self.dtype.startswith("float")

    @property
    def text(self) -> str:
        if self.dtype == "bool":
            return "hotloop.Bool()"
        kind, usual = ("Float", "float64") if self.is_float else ("Integer", "int64")
        words = [repr(self.low), repr(self.high)] if self.is_bounded else []
        words += [f'dtype="{self.dtype}"'] if self.dtype != usual else []
        words += [f"width={self.width}"] if self.width else []
        words += [f"sample={self.sample}"] if self.sample else []
        return f"hotloop.{kind}({', '.join(words)})"

    @property
    def edges(self) -> list[Value]:
        """Both bounds, their neighbours, and zeros, as far as they are within the bounds."""
        if self.dtype == "bool":
            return [False, True]
        if not self.is_bounded:
            return [0.0, -0.0, 1.0, -1.0, 1e308, 5e-324, math.inf, -math.inf, math.nan]
        if self.is_float:
            known: list[Value] = [self.low, self.high]
            known += [0.0, -0.0, 1.0] if self.low <= 0 <= self.high else [1.0]
        else:
            known = [self.low, self.low + 1, self.high - 1, self.high, -1, 0, 1]
        return [value for value in known if self.low <= float(value) <= self.high]

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[Any]:
        shape = (count,) if self.width is None else (count, self.width)
        if self.is_float:
            return rng.uniform(self.low, self.high, shape).astype(self.dtype)
        drawn = rng.integers(int(self.low), int(self.high), shape, endpoint=True)
        return drawn.astype(self.dtype)


@dataclass(frozen=True)
class Parameter:
    """A parameter, written as `name kind minimum maximum =default`, or `name choice first …`."""

    name: str
    kind: str
    values: tuple[Value, ...]
    default: Value

    @property
    def text(self) -> str:
        if self.kind == "bool":
            return f"hotloop.Bool(default={self.default})"
        if self.kind == "choice":
            return f"hotloop.Choice({', '.join(repr(value) for value in self.values)})"
        kind = "Float" if self.kind == "float" else "Integer"
        low, high = self.values
        return f"hotloop.{kind}({low!r}, {high!r}, default={self.default!r})"


@dataclass(frozen=True)
class Output:
    """A column out, written as `name dtype [ulp=number]`."""

    name: str
    dtype: str
    ulp: int = 0

    @property
    def text(self) -> str:
        if self.dtype == "bool":
            return "hotloop.Bool()"
        words = [] if self.dtype in ("float64", "int64") else [f'dtype="{self.dtype}"']
        words += [f"ulp={self.ulp}"] if self.ulp else []
        kind = "Float" if self.dtype.startswith("float") else "Integer"
        return f"hotloop.{kind}({', '.join(words)})"


@dataclass(frozen=True)
class Slip:
    """A change of a body that makes it wrong: the class of the fault, the texts, what happens.

    A `cost` slip makes the kernel do other work than is declared, a `bounds` slip leaves an array.
    """

    kind: str
    old: str
    new: str
    words: str


@dataclass(frozen=True)
class Base:
    """A workload in short notation; entries of `columns` and the like are separated by `;`."""

    name: str
    columns: str
    outputs: str
    body: str
    parameters: str = ""
    scratch: str = ""
    cost: Mapping[str, str] | str | None = None
    header: str = ""
    numpy: str = ""
    slips: tuple[Slip, ...] = field(default=(), repr=False)

    @cached_property
    def inputs(self) -> tuple[Column, ...]:
        return tuple(map(_column, _entries(self.columns)))

    @cached_property
    def given(self) -> tuple[Parameter, ...]:
        return tuple(map(_parameter, _entries(self.parameters)))

    @cached_property
    def results(self) -> tuple[Output, ...]:
        return tuple(map(_output, _entries(self.outputs)))

    @cached_property
    def arrays(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """Name, dtype and shape of the scratch arrays."""
        return tuple((e[0], e[1], tuple(e[2].split(","))) for e in _entries(self.scratch))

    @property
    def arguments(self) -> list[str]:
        """Names of the arguments of a batch kernel, in their order."""
        return [
            *(f"{column.name}_in" for column in self.inputs),
            *(parameter.name for parameter in self.given),
            *(f"{output.name}_out" for output in self.results),
            *(name for name, _, _ in self.arrays),
        ]

    @property
    def names(self) -> list[str]:
        """Names of the arguments of the scalar function, in their order."""
        return [c.name for c in self.inputs] + list(self.defaults) + [a[0] for a in self.arrays]

    @property
    def defaults(self) -> dict[str, Value]:
        return {parameter.name: parameter.default for parameter in self.given}

    def slips_of(self, kind: str) -> list[Slip]:
        return [slip for slip in self.slips if slip.kind == kind]

    def function_text(self, cost: Mapping[str, str] | str | None = None) -> str:
        """Return the decorated scalar function; `cost` replaces the declared one."""
        cost = self.cost if cost is None else cost
        parts = {
            "columns": {column.name: column.text for column in self.inputs},
            "parameters": {parameter.name: parameter.text for parameter in self.given},
            "outputs": {output.name: output.text for output in self.results},
            "scratch": {name: _scratch_text(dtype, shape) for name, dtype, shape in self.arrays},
        }
        lines = [
            f"    {part}={{{', '.join(f'{name!r}: {text}' for name, text in named.items())}}},"
            for part, named in parts.items()
            if named
        ]
        if cost is not None:
            lines.append(f"    cost={cost if isinstance(cost, Mapping) else repr(cost)},")
        return "\n".join(
            [
                "@hotloop.workload(",
                *lines,
                ")",
                f"def {self.name}({', '.join(self.names)}):",
                f'    """Compute {" and ".join(output.name for output in self.results)}."""',
                indent(dedent(self.body).strip("\n"), "    "),
                f"    return {', '.join(output.name for output in self.results)}",
            ]
        )


Batch = Callable[..., None]


def _entries(text: str) -> list[list[str]]:
    return [entry.split() for entry in text.split(";") if entry.strip()]


def _column(words: list[str]) -> Column:
    name, dtype, *rest = words
    if dtype == "bool":
        return Column(name, dtype, 0, 1)
    dtype = _KINDS.get(dtype, dtype)
    if not rest:
        return Column(name, dtype, 0.0, 1.0, is_bounded=False)
    number: Callable[[str], float | int] = float if dtype.startswith("float") else int
    marks = {word[0]: word for word in rest[2:]}
    return Column(
        name,
        dtype,
        number(rest[0]),
        number(rest[1]),
        int(marks["*"][1:]) if "*" in marks else None,
        marks["s"].removeprefix("sample=") if "s" in marks else None,
    )


def _parameter(words: list[str]) -> Parameter:
    name, kind, *rest = words
    if kind == "choice":
        return Parameter(name, kind, tuple(rest), rest[0])
    if kind == "bool":
        return Parameter(name, kind, (False, True), rest[0] == "=True")
    number: Callable[[str], float | int] = float if kind == "float" else int
    low, high = map(number, rest[:2])
    return Parameter(name, kind, (low, high), number(rest[2][1:]))


def _output(words: list[str]) -> Output:
    name, dtype, *rest = words
    ulp = int(rest[0].removeprefix("ulp=")) if rest else 0
    return Output(name, _KINDS.get(dtype, dtype), ulp)


def _scratch_text(dtype: str, shape: tuple[str, ...]) -> str:
    return f'hotloop.Scratch("{dtype}", {", ".join(repr(each) for each in shape)})'


def middle(column: Column, share: float) -> float | int:
    """Return the value below which `share` of a column's items lie."""
    value = column.low + share * (column.high - column.low)
    return float(f"{value:.6g}") if column.is_float else math.floor(value)
