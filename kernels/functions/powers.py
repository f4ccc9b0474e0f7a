"""Powers in derived kernels, equal to Python's to the bit.

Numba computes `x ** 2` as `x * x` and other whole powers by repeated multiplication. Python asks
the C library's `pow`, whose last bit differs: for one square in a thousand, for a quarter of cubes.
A function with powers is therefore compiled from its syntax tree, in which each power is a call of
`power`. The C function is called by its address, so that no compiler can replace it.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import math
import textwrap
from functools import cache
from types import FunctionType
from typing import Any, Final

__all__ = ["with_exact_powers"]

_NAME: Final = "_hotloop_power"


def with_exact_powers(function: FunctionType, scope: dict[str, Any]) -> FunctionType | None:
    """Return the function with its powers replaced, compiled in `scope`; None if it has none.

    A function without source, or one that closes over variables, counts as having none.
    """
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return None
    definition = tree.body[0] if tree.body else None
    if not isinstance(definition, ast.FunctionDef) or function.__closure__:
        return None
    definition.decorator_list = []
    definition.args.defaults = []  # the copy gets the values of the original
    definition.args.kw_defaults = [None] * len(definition.args.kwonlyargs)
    replacing = _Replacing(scope)
    replacing.visit(tree)
    if not replacing.found:
        return None
    ast.increment_lineno(ast.fix_missing_locations(tree), first - 1)
    made: dict[str, Any] = {}
    # `from __future__ import annotations` keeps the annotations of the user's from being run.
    flags = __import__("__future__").annotations.compiler_flag
    code = compile(tree, function.__code__.co_filename, "exec", flags=flags, dont_inherit=True)
    scope[_NAME] = _compiled_power()
    exec(code, scope, made)  # only the definition: no decorator, no default
    copy: FunctionType = made[function.__name__]
    copy.__defaults__ = function.__defaults__
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


class _Replacing(ast.NodeTransformer):
    """Replaces `a ** b`, `a **= b`, `pow(a, b)` and `math.pow(a, b)`."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.found = False
        self._scope = scope

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:  # ast's name
        self.generic_visit(node)
        return self._call(node, node.left, node.right) if isinstance(node.op, ast.Pow) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Pow) or not isinstance(node.target, ast.Name):
            return node
        before = ast.Name(node.target.id, ast.Load())
        return ast.copy_location(
            ast.Assign([node.target], self._call(node, before, node.value)), node
        )

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if len(node.args) == 2 and not node.keywords and self._is_pow(node.func):
            return self._call(node, *node.args)
        return node

    def _is_pow(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(name):
                return self._scope.get(name, pow if name == "pow" else None) in (pow, math.pow)
            case ast.Attribute(ast.Name(name), "pow"):
                return self._scope.get(name) is math
        return False

    def _call(self, node: ast.AST, base: ast.expr, exponent: ast.expr) -> ast.Call:
        self.found = True
        call = ast.Call(ast.Name(_NAME, ast.Load()), [base, exponent], [])
        return ast.copy_location(call, node)


def power(base: Any, exponent: Any) -> Any:
    """Return `base ** exponent`; in compiled code, with Python's bits and Python's errors."""
    return base**exponent


@cache
def _compiled_power() -> Any:
    import numba
    from numba.extending import overload

    in_c = ctypes.CDLL(None).pow
    in_c.restype = ctypes.c_double
    in_c.argtypes = (ctypes.c_double, ctypes.c_double)

    @overload(power, inline="never", jit_options={"error_model": "python"})
    def _power(base: Any, exponent: Any) -> Any:
        types = numba.types
        if isinstance(base, types.Integer | types.Boolean) and isinstance(
            exponent, types.Integer | types.Boolean
        ):

            def whole(base: Any, exponent: Any) -> Any:
                if exponent < 0:  # where Python's result is a float
                    raise ValueError("negative power of an integer; write float(base) ** exponent")
                return base**exponent

            return whole

        def floats(base: Any, exponent: Any) -> Any:
            first, second = float(base), float(exponent)
            if first == 0.0 and second < 0.0:
                raise ZeroDivisionError("0.0 cannot be raised to a negative power")
            result = in_c(first, second)
            if math.isinf(result) and math.isfinite(first) and math.isfinite(second):
                raise OverflowError("Numerical result out of range")
            return result

        return floats

    return power
