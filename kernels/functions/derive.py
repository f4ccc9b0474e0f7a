"""Batch kernels that are derived from a scalar function: a loop in Python, and the same in Numba.

The Numba kernel has Python's arithmetic: no fastmath, Python's errors, every number widened to 64
bits before the function sees it, because Numba computes with narrow and unsigned ones as C does.
Nothing is compiled before `warm_up`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import numpy as np

from hotloop.kernels.column import Column
from hotloop.kernels.contract import Parameter, Workload
from hotloop.kernels.functions.powers import with_exact_powers

__all__ = ["NumbaKernel", "one_line", "python_batch"]

_LONGEST_REASON: Final = 300
_WIDE: Final = ("float64", "int64", "bool")


def python_batch(function: Callable[..., Any], workload: Workload) -> Callable[..., None]:
    """Return the loop that calls a scalar function with Python numbers, item by item.

    Vectors and scratch arrays arrive as memoryviews, which give Python numbers, too.
    """
    names = _Names(workload)
    lines = [f"def batch({names.signature}):"]
    scalars = (names[column.name] for column in workload.columns_in if column.width is None)
    lines += [f"    {name} = {name}.tolist()" for name in scalars]
    lines += [f"    {names[s.name]} = memoryview({names[s.name]})" for s in workload.scratch]

    def value(column: Column) -> str:
        item = f"{names[column.name]}[i]"
        return item if column.width is None else f"memoryview({item})"

    lines.append(f"    for i in range(len({names[workload.columns_out[0].name]})):")
    lines.append(f"        {names.targets} = function({names.arguments(function, value)})")
    return _compiled(lines, {"function": function})


class NumbaKernel:
    """A batch kernel that Numba compiles from a scalar function, without the GIL."""

    def __init__(self, function: Callable[..., Any], workload: Workload) -> None:
        self._function = function
        self._workload = workload
        self._lock = threading.Lock()
        self._compiled: Callable[..., None] | None = None
        self._narrow = [c for c in workload.columns_in if c.width and c.dtype not in _WIDE]
        """Vector columns whose items are widened one by one, in an array of each call."""

    def warm_up(self) -> None:
        """Compile once, while other callers wait. Raises whatever Numba does."""
        if self._compiled is None:
            with self._lock:
                if self._compiled is None:
                    self._compiled = self._compile()

    def __call__(self, *arguments: Any) -> None:
        """Compute a batch; `warm_up` comes before."""
        assert self._compiled is not None
        widened = (np.empty(c.width or 0, dtype=_wide(c)) for c in self._narrow)
        self._compiled(*arguments, *widened)

    def _compile(self) -> Callable[..., None]:
        import numba

        for column in self._workload.columns_in:
            if column.dtype == "uint64":
                raise TypeError(
                    f"Numba computes with uint64 and other integers in floats; declare column "
                    f"{column.name!r} as int64, or add a batch kernel"
                )

        options: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "python"}
        workload = self._workload
        names = _Names(workload)
        function = _jitted(self._function, options, {})
        rows = {column.name: f"w{place}" for place, column in enumerate(self._narrow)}

        def value(column: Column) -> str:
            item = f"{names[column.name]}[i]"
            if column.width is None:
                return f"{_wide(column)}_({item})"
            return rows.get(column.name, item)

        lines = [
            f"def batch({', '.join([names.signature, *rows.values()])}):",
            f"    for i in range({names[workload.columns_out[0].name]}.shape[0]):",
        ]
        for name, row in rows.items():
            lines.append(f"        for j in range({row}.shape[0]):")
            lines.append(f"            {row}[j] = {names[name]}[i, j]")
        lines.append(
            f"        {names.targets} = function({names.arguments(self._function, value)})"
        )
        types = numba.types
        widened = {"float64_": types.float64, "int64_": types.int64, "bool_": types.bool_}
        batch = _compiled(lines, {"function": function, **widened})
        compiled: Any = numba.njit(**options)(batch)
        compiled.compile(self._signature())
        compiled.disable_compile()
        return compiled  # type: ignore[no-any-return]

    def _signature(self) -> tuple[Any, ...]:
        from numba import types

        def array(dtype: str, dimensions: int, *, readonly: bool) -> Any:
            scalar = types.bool_ if dtype == "bool" else getattr(types, dtype)
            # Inputs arrive as read-only views, which Numba types apart from writable arrays.
            return types.Array(scalar, dimensions, "C", readonly=readonly)

        def scalar(parameter: Parameter) -> Any:
            kind = type(parameter.default)
            return {bool: types.bool_, int: types.int64, float: types.float64}.get(
                kind, types.unicode_type
            )

        workload = self._workload
        return (
            *(
                array(c.dtype, 1 if c.width is None else 2, readonly=True)
                for c in workload.columns_in
            ),
            *map(scalar, workload.parameters),
            *(array(c.dtype, 1, readonly=False) for c in workload.columns_out),
            *(array(s.dtype, len(s.shape), readonly=False) for s in workload.scratch),
            *(array(_wide(c), 1, readonly=False) for c in self._narrow),
        )


def _wide(column: Column) -> str:
    """Return the dtype in which a function computes with a column's values."""
    return "bool" if column.is_bool else "int64" if column.is_integer else "float64"


def one_line(error: BaseException) -> str:
    """Return an error in one line, with the file and the line in the user's code where known."""
    try:
        text = str(error)
    except Exception:  # of a user's class
        text = ""
    places = re.findall(r'File "([^"<]+)", line (\d+)', text)
    places += re.findall(r"Raised from (\S+) \((\d+)\)", text)
    text = re.sub(r"\s*Raised from \S+ \(\d+\)", "", text)
    boilerplate = re.compile(
        r"^(Failed in nopython mode.*|During: .*|File .*|<source missing.*|[-^~ ]*|def .*)$"
    )
    lines = (re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in text.splitlines())
    said = next((line for line in lines if not boilerplate.match(line)), "")
    if not places and error.__traceback__ is not None:
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        places = [(trace.tb_frame.f_code.co_filename, str(trace.tb_lineno))]
    place = f" at {Path(places[-1][0]).name}:{places[-1][1]}" if places else ""
    said = said if len(said) <= _LONGEST_REASON else f"{said[:_LONGEST_REASON]}…"
    return f"{type(error).__name__}: {said}{place}" if said else f"{type(error).__name__}{place}"


def _jitted(function: Any, options: dict[str, Any], made: dict[int, Any]) -> Any:
    """Return a function compiled by Numba together with the plain functions that it names."""
    import numba

    plain = getattr(function, "function", function)
    if not isinstance(plain, FunctionType):
        return function
    if id(plain) in made:
        return made[id(plain)]
    scope = dict(plain.__globals__)
    copy = with_exact_powers(plain, scope)
    if copy is None:
        copy = FunctionType(
            plain.__code__, scope, plain.__name__, plain.__defaults__, plain.__closure__
        )
        copy.__kwdefaults__ = plain.__kwdefaults__
    copy.__annotations__ = {}
    copy.__module__ = plain.__module__
    made[id(plain)] = jitted = numba.njit(**options)(copy)
    for name in plain.__code__.co_names:
        named = scope.get(name)
        if isinstance(getattr(named, "function", named), FunctionType):
            scope[name] = _jitted(named, options, made)
    return jitted


class _Names:
    """Names in the generated code, so that no name of the user's can collide with another."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        groups: Sequence[tuple[str, Sequence[Any]]] = (
            ("c", workload.columns_in),
            ("p", workload.parameters),
            ("o", workload.columns_out),
            ("s", workload.scratch),
        )
        self._names = {
            each.name: f"{letter}{place}"
            for letter, group in groups
            for place, each in enumerate(group)
        }

    def __getitem__(self, name: str) -> str:
        return self._names[name]

    @property
    def signature(self) -> str:
        return ", ".join(self._names.values())

    @property
    def targets(self) -> str:
        return ", ".join(f"{self[column.name]}[i]" for column in self._workload.columns_out)

    def arguments(self, function: Callable[..., Any], value: Callable[[Column], str]) -> str:
        """Return the arguments of a call for item `i`, in the order of the function's."""
        columns = {column.name: column for column in self._workload.columns_in}
        code = getattr(function, "__code__")  # noqa: B009  # mypy knows no code of callables
        order = code.co_varnames[: code.co_argcount]
        return ", ".join(
            value(columns[name]) if name in columns else self._names[name] for name in order
        )


def _compiled(lines: Sequence[str], scope: dict[str, Any]) -> Callable[..., None]:
    exec(compile("\n".join(lines), "<derived by hotloop>", "exec"), scope)
    batch: Callable[..., None] = scope["batch"]
    return batch
