"""Numbers that stand in the user's code: a branch is most often decided by one of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

__all__ = ["constants_of", "plain_function"]

MOST: Final = 400
"""Constants that are tried; code with more of them is full of tables."""

_DEEPEST: Final = 8


def constants_of(functions: Iterable[Any]) -> tuple[float | int, ...]:
    """Return the numbers in these functions and in those that they name, without bools, each once,
    in rising order. Functions that have no Python code are passed over.
    """
    found: set[float | int] = set()
    seen: set[int] = set()
    for function in functions:
        for number in _of(function, seen, 0):
            if len(found) < MOST and math.isfinite(number):
                found.add(number)
    return tuple(sorted(found))


def _of(value: Any, seen: set[int], depth: int) -> Iterator[float | int]:
    value = plain_function(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "iuf" and value.size <= MOST:
        yield from value.reshape(-1).tolist()
        return
    if isinstance(value, int | float | np.number):
        if not isinstance(value, bool):
            yield value if isinstance(value, int | float) else value.item()
        return
    if depth > _DEEPEST or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, tuple | list | set | frozenset):
        if len(value) <= MOST:
            for each in value:
                yield from _of(each, seen, depth + 1)
    elif isinstance(value, dict):
        yield from _of(list(value.items())[:MOST], seen, depth + 1)
    elif isinstance(value, CodeType):
        for each in value.co_consts:
            yield from _of(each, seen, depth + 1)
    elif isinstance(value, FunctionType):
        yield from _of(value.__code__, seen, depth + 1)
        yield from _of(value.__defaults__ or (), seen, depth + 1)
        for cell in value.__closure__ or ():
            yield from _of(_content(cell), seen, depth + 1)
        for name in _names(value.__code__):
            if name in value.__globals__ and not isinstance(value.__globals__[name], ModuleType):
                yield from _of(value.__globals__[name], seen, depth + 1)


def plain_function(value: Any) -> Any:
    """Return the Python function inside a workload or behind a compiled one; others as they are."""
    for name in ("function", "py_func", "__wrapped__", "__func__"):
        inner = getattr(value, name, None)
        if isinstance(inner, FunctionType) or hasattr(inner, "py_func"):
            return plain_function(inner)
    return value


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is still empty
        return None


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)
