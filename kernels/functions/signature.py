"""Reading a function's signature and annotations: from a function to a declared workload."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, Final, Literal, get_args, get_origin

from hotloop.kernels.contract import Call, Term, Workload
from hotloop.kernels.errors import WorkloadError
from hotloop.kernels.expressions import evaluate
from hotloop.kernels.functions.columns import (
    Bool,
    Choice,
    Float,
    Integer,
    Kind,
    Scratch,
    check_name,
    input_column,
    output_column,
    parameter,
    scratch_array,
)
from hotloop.kernels.functions.derive import one_line

__all__ = ["checked_function", "declared"]

_DATA: Final = "data"
_KINDS: Final[Mapping[Any, type[Float | Integer | Bool]]] = {
    float: Float,
    int: Integer,
    bool: Bool,
}


def checked_function(function: Any) -> FunctionType:
    """Return the plain function, or raise `WorkloadError` for what other processes cannot find."""
    plain = getattr(function, "py_func", function)  # one that Numba has compiled
    if not isinstance(plain, FunctionType):
        raise WorkloadError(
            f"a workload is made of a function, not of {type(function).__name__}: decorate "
            "`def f(x: float) -> float`"
        )
    if plain.__name__ == "<lambda>" or plain.__qualname__ != plain.__name__:
        raise WorkloadError(
            f"{plain.__qualname__} cannot be a workload, because other processes cannot import it; "
            "define it with `def` at the top of a module"
        )
    unnamed = [
        each.name
        for each in inspect.signature(plain).parameters.values()
        if each.kind is not each.POSITIONAL_OR_KEYWORD
    ]
    if unnamed or inspect.iscoroutinefunction(plain) or inspect.isgeneratorfunction(plain):
        raise WorkloadError(
            f"{plain.__name__} must be a plain function with plain arguments"
            + (f", not {', '.join(unnamed)}" if unnamed else ", not one with await or yield")
        )
    return plain


def declared(
    function: FunctionType,
    name: str,
    description: str | None,
    columns: Mapping[str, Kind] | None,
    parameters: Mapping[str, Kind] | None,
    outputs: Mapping[str, Kind] | None,
    scratch: Mapping[str, Scratch] | None,
    cost: Mapping[str, str] | str | None,
) -> Workload:
    arguments = inspect.signature(function).parameters
    kinds = _Kinds(function)
    scratch = dict(scratch or {})
    defaults = {n: a.default for n, a in arguments.items() if a.default is not a.empty}
    rest = [n for n in arguments if n not in {**(columns or {}), **(parameters or {}), **scratch}]
    if columns is None:
        columns = {n: kinds.of(n) for n in rest if n not in defaults}
    if parameters is None:
        parameters = {n: kinds.of(n) for n in rest if n in defaults}
    outputs = kinds.outputs() if outputs is None else outputs
    named = [*columns, *parameters, *scratch]
    if sorted(named) != sorted(arguments):
        missing = sorted(set(arguments) - set(named)) or sorted(set(named) - set(arguments))
        raise WorkloadError(
            f"{function.__name__} has the arguments {', '.join(arguments)}; each must be declared "
            f"once, as a column, a parameter or scratch, and no other: {', '.join(missing)}"
        )
    if not columns or not outputs:
        raise WorkloadError(
            f"{function.__name__} needs at least one column and one output; without a column all "
            "items would be the same"
        )
    for group, noun in (
        (columns, "column"),
        (parameters, "parameter"),
        (outputs, "output"),
        (scratch, "scratch"),
    ):
        for each in group:
            check_name(each, noun)
    if twice := {*outputs} & {*named}:
        raise WorkloadError(f"an output cannot have the name of an argument: {', '.join(twice)}")
    folder = Path(function.__code__.co_filename).parent
    made = tuple(parameter(n, kind, defaults.get(n)) for n, kind in parameters.items())
    values = {each.name: each.default for each in made}
    columns_in = tuple(input_column(n, kind, folder) for n, kind in columns.items())
    columns_out = tuple(output_column(n, kind) for n, kind in outputs.items())
    terms, depends_on_data = _terms(cost, values)
    first_line = (inspect.getdoc(function) or "").partition("\n")[0]
    declaration = Workload(
        name=name,
        description=description or first_line or f"The function {function.__name__}.",
        columns_in=columns_in,
        columns_out=columns_out,
        parameters=made,
        product_bounds=(),
        calls=(Call("batch", tuple(columns), tuple(parameters), tuple(outputs)),),
        terms=terms,
        kernels=(),
        scratch=tuple(scratch_array(n, kind, values) for n, kind in scratch.items()),
        depends_on_data=depends_on_data,
    )
    _check_texts(declaration)
    return declaration


def _check_texts(declared: Workload) -> None:
    """Raise `WorkloadError` for a text that could not be shown to clients."""
    texts: list[object] = [declared.description]
    for column in (*declared.columns_in, *declared.columns_out):
        texts += [column.description, column.unit or ""]
    for each in declared.parameters:
        texts += [each.description, each.unit or ""]
        texts += [choice for choice in each.choices if isinstance(choice, str)]
    for text in texts:
        # Half of a pair of surrogates, which Python's texts may have and UTF-8 has not.
        if not isinstance(text, str) or re.search("[\ud800-\udfff]", text):
            raise WorkloadError(
                f"descriptions, units and choices must be texts in Unicode, not {text!r:.60}"
            )


class _Kinds:
    """The kinds that a function's annotations stand for."""

    def __init__(self, function: FunctionType) -> None:
        self._name = function.__name__
        try:
            self._types = inspect.get_annotations(function, eval_str=True)
        except Exception as error:  # an annotation may be any expression
            self._types = {}
            self._fault = f" ({one_line(error)})"
        else:
            self._fault = ""

    def of(self, argument: str) -> Any:
        """Return the kind of an argument. Raises `WorkloadError`."""
        kind = self._types.get(argument)
        if get_origin(kind) is Literal:
            return Choice(*get_args(kind))
        if kind not in _KINDS:
            raise WorkloadError(
                f"argument {argument!r} of {self._name} needs a declaration, or the annotation "
                f"float, int or bool{self._fault}"
            )
        return _KINDS[kind]()

    def outputs(self) -> dict[str, Any]:
        """Return the outputs by the return annotation. Raises `WorkloadError`."""
        kind = self._types.get("return")
        if kind in _KINDS:
            return {"result": _KINDS[kind]()}
        several = get_args(kind) if get_origin(kind) is tuple else ()
        if several and all(each in _KINDS for each in several):
            return {f"result_{place}": _KINDS[each]() for place, each in enumerate(several, 1)}
        raise WorkloadError(
            f"{self._name} needs `outputs`, or the return annotation float, int, bool or a tuple "
            f"of them{self._fault}"
        )


def _terms(
    cost: Mapping[str, str] | str | None, defaults: Mapping[str, Any]
) -> tuple[tuple[Term, ...], bool]:
    """Return the cost terms, and whether the items decide. Raises `WorkloadError`."""
    if cost is None:
        has_integers = any(type(value) is int for value in defaults.values())
        cost = _DATA if has_integers else {"item": "1"}
    if cost == _DATA:
        return (Term("item", "1"),), True
    if isinstance(cost, str) or not cost:
        raise WorkloadError(
            f'`cost` must be "data", or map names to expressions as in {{"steps": "n * n"}}, not '
            f"{cost!r}"
        )
    for name, expression in cost.items():
        check_name(name, "cost term")
        try:
            operations = evaluate(expression, defaults)
        except ValueError as error:
            raise WorkloadError(f"cost term {name!r}: {error}") from None
        if operations < 0:
            raise WorkloadError(f"cost term {name!r} is {operations} with the default parameters")
    return tuple(Term(name, expression) for name, expression in cost.items()), False
