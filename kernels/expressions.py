"""Arithmetic expressions of parameters, which declare the cost and the scratch of a workload.

An expression is Python's syntax of numbers, names, `+ - * / // % **`, parentheses, and calls of
`min`, `max`, `abs`, `ceil`, `floor`, `sqrt`, `log` and `log2`. It is parsed, never run as code.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

__all__ = ["evaluate", "names_in"]

_OPERATORS: Final[Mapping[type, Callable[..., Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}
_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "log": math.log,
    "log2": math.log2,
}
_LARGEST_POWER: Final = 64
"""The largest exponent, so that no expression takes long."""


def names_in(expression: str) -> tuple[str, ...]:
    """Return the names of the parameters in an expression, in the order of their first use.

    Raises ValueError for text that is no expression.
    """
    found = _parsed(expression)
    calls = {id(node.func) for node in ast.walk(found) if isinstance(node, ast.Call)}
    names = (n for n in ast.walk(found) if isinstance(n, ast.Name) and id(n) not in calls)
    placed = sorted(names, key=lambda name: (name.lineno, name.col_offset))
    return tuple(dict.fromkeys(name.id for name in placed))


def evaluate(expression: str, values: Mapping[str, Any]) -> float | int:
    """Return the value of an expression. A boolean counts as 0 or 1.

    Raises ValueError for text that is no expression, an unknown name, a name whose value is not a
    number, and a result that is not a finite number.
    """
    try:
        result = _value(_parsed(expression), values)
        if isinstance(result, int) or (isinstance(result, float) and math.isfinite(result)):
            return result
    except (ArithmeticError, TypeError) as error:
        raise ValueError(f"{expression!r} cannot be computed: {error}") from None
    raise ValueError(f"{expression!r} is not a finite number")


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> ast.expr:
    try:
        found = ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{expression!r} is not an arithmetic expression") from None
    _check(found, expression)
    return found


def _check(node: ast.expr, expression: str) -> None:
    match node:
        case ast.Constant(value=value) if type(value) in (int, float):
            return
        case ast.Name():
            return
        case ast.BinOp(left, operation, right) if type(operation) in _OPERATORS:
            _check(left, expression)
            _check(right, expression)
        case ast.UnaryOp(ast.USub(), operand):
            _check(operand, expression)
        case ast.Call(ast.Name(name), arguments, []) if name in _FUNCTIONS and arguments:
            for each in arguments:
                _check(each, expression)
        case _:
            raise ValueError(
                f"{expression!r} may have numbers, parameters, + - * / // % **, and "
                f"{', '.join(sorted(_FUNCTIONS))} only, not {ast.unparse(node)!r}"
            )


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            if name not in values:
                raise ValueError(f"there is no parameter {name!r}; there are: {', '.join(values)}")
            if not isinstance(values[name], int | float):
                raise ValueError(f"parameter {name!r} is not a number")
            return values[name]
        case ast.UnaryOp(_, operand):
            return -_value(operand, values)
        case ast.BinOp(left, operation, right):
            first, second = _value(left, values), _value(right, values)
            if isinstance(operation, ast.Pow) and abs(second) > _LARGEST_POWER:
                raise ValueError(f"an exponent may be at most {_LARGEST_POWER}, not {second}")
            return _OPERATORS[type(operation)](first, second)
        case ast.Call(ast.Name(name), arguments):
            return _FUNCTIONS[name](*(_value(each, values) for each in arguments))
    raise AssertionError(node)  # `_check` lets nothing else through
