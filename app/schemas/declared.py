"""Parts of the request models that are made from the declaration of a workload.

`ParametersOf` and `RowsOf` stand in an annotation: the field is checked and documented as the
workload declares it, and code reads it by name, as a mapping.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Annotated, Any, Final, cast

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    with_config,
)
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

# Before Python 3.12 pydantic cannot use the standard library's TypedDict.
from typing_extensions import TypedDict

from hotloop.app.names import ITEM_ID
from hotloop.app.wording import RULE
from hotloop.kernels import Column, Parameter, Workload, declared_workloads, workloads
from hotloop.kernels.contract import Value

MAX_INLINE_ITEMS: Final = 100_000

MADE_TYPES: Final = 512
"""The most types and models that are kept of those made for workloads, of each kind."""

ItemRow = Mapping[str, Any]
"""An item: its `item_id`, and a value for each input column of the workload."""

Parameters = Mapping[str, Value]
"""Parameters of a workload by name."""


def example_row(workload: Workload, row: int = 0) -> dict[str, Any]:
    """Return an item for the documentation, with the id `row + 1`."""
    values = {column.name: column.example(row) for column in workload.columns_in}
    return {ITEM_ID.name: row + 1} | values


def example_result(workload: Workload) -> dict[str, Any]:
    """Return the result of an item for the documentation."""
    return {ITEM_ID.name: 0} | {column.name: column.example() for column in workload.columns_out}


def model_name(name: str, workload: Workload) -> str:
    """Return the name of a model in the documentation; the default workload's has no suffix."""
    return name if workload.name == declared_workloads()[0].name else f"{name}_{workload.name}"


def unknown_workload(name: str) -> str:
    """Return the fault of a request that names a workload which is not declared."""
    return f"{name!r} is unknown; choose from: {', '.join(workloads())}"


def sentence(text: str) -> str:
    """Return the words of a declaration as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def check_products(workload: Workload, parameters: Parameters) -> Parameters:
    """Return the parameters, or refuse them if a product is too large: PydanticCustomError."""
    for bound in workload.product_bounds:
        product: Any = 1
        for name in bound.parameters:
            product *= parameters[name]
        if product > bound.maximum:
            first, *rest = bound.parameters
            raise PydanticCustomError(
                RULE,
                "times {rest} must be at most {most} (got {got}); lower one of {them}",
                {
                    "field": first,
                    "rest": " times ".join(rest),
                    "most": f"{bound.maximum:,}",
                    "got": f"{product:,}",
                    "them": "the two" if len(rest) == 1 else "them",
                },
            )
    return parameters


_JSON_KINDS: Final = {bool: "boolean", int: "integer", float: "number", str: "string"}


@dataclass(frozen=True)
class ChoiceOf:
    """Annotation of a parameter that must be one of these values; in a query they are texts."""

    choices: tuple[Value, ...]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.lax_or_strict_schema(
            lax_schema=core_schema.no_info_plain_validator_function(self._read),
            strict_schema=core_schema.no_info_plain_validator_function(self._known),
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = {_JSON_KINDS[type(choice)] for choice in self.choices}
        return {"enum": list(self.choices)} | ({"type": kinds.pop()} if len(kinds) == 1 else {})

    def _read(self, text: Any) -> Value:
        if isinstance(text, str) and text not in self.choices:
            try:
                return self._known(json.loads(text))
            except (ValueError, RecursionError):
                pass
        return self._known(text)

    def _known(self, value: Any) -> Value:
        for choice in self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        for choice in self.choices:
            # In JSON 1 and 1.0 are one number, and programs write either.
            if {type(choice), type(value)} == {int, float} and choice == value:
                return choice
        *most, last = (repr(choice) for choice in self.choices)
        expected = f"{', '.join(most)} or {last}" if most else last
        raise PydanticKnownError("literal_error", {"expected": expected})


def _kind(declared: Column | Parameter) -> Any:
    """Return the type of a value, without its bounds."""
    if declared.dtype == "bool":
        return bool
    return int if declared.is_integer else float


def _parameter_field(workload: Workload, parameter: Parameter) -> Any:
    text = parameter.description
    for bound in workload.product_bounds:
        first, *rest = bound.parameters
        if first == parameter.name:
            text += f"; times {' times '.join(rest)} at most {bound.maximum:,}"
    field = Field(
        default=parameter.default,
        ge=parameter.minimum,
        le=parameter.maximum,
        description=sentence(text),
    )
    if parameter.choices:
        return Annotated[Any, ChoiceOf(parameter.choices), field]
    return Annotated[_kind(parameter), field]


@lru_cache(MADE_TYPES)
def parameters_type(workload: Workload) -> Any:
    """Make the type of a workload's parameters: a TypedDict that fills in the defaults.

    Unknown parameters, and numbers written as texts, are refused as in the model that has them.
    """
    # A dict and not a model, because a parameter may have the name of any attribute of a model.
    fields = {p.name: _parameter_field(workload, p) for p in workload.parameters}
    made = cast("Any", TypedDict)(model_name("Parameters", workload), fields)
    made.__doc__ = f"Parameters of the workload `{workload.name}`."
    return made


@lru_cache(MADE_TYPES)
def row_type(workload: Workload) -> Any:
    """Make the type of an item in a body: a TypedDict of `item_id` and the input columns."""
    # A dict and not a model, which takes three times as long for 100,000 of them.
    made = cast("Any", TypedDict)(model_name("ItemRow", workload), row_fields(workload))
    made.__doc__ = "One item with its columns."
    return with_config(extra="forbid", strict=True, allow_inf_nan=False)(made)


def row_fields(workload: Workload) -> dict[str, Any]:
    """Return the types of an item's fields, by name."""
    return {column.name: _row_field(column) for column in (ITEM_ID, *workload.columns_in)}


def _row_field(column: Column) -> Any:
    value: Any = _kind(column)
    if not column.is_bool:
        least, greatest = column.limits
        value = Annotated[value, Field(ge=least, le=greatest)]
    if column.width is not None:
        # One fault is enough: a vector may have thousands of values.
        exactly = Field(min_length=column.width, max_length=column.width, fail_fast=True)
        value = Annotated[list[value], exactly]
    return Annotated[value, Field(description=sentence(column.description))]


class ParametersOf:
    """Annotation of a field with the parameters of a workload; the value has all of them."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._defaults: Final = {p.name: p.default for p in workload.parameters}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        checked = AfterValidator(partial(check_products, self.workload))
        return handler.generate_schema(Annotated[parameters_type(self.workload), checked])

    def defaults(self) -> dict[str, Value]:
        """Return each parameter's default."""
        return self._defaults.copy()


@dataclass(frozen=True)
class RowsOf:
    """Annotation of a field with items of a workload."""

    workload: Workload

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        row: Any = row_type(self.workload)
        bounds = Field(min_length=1, max_length=MAX_INLINE_ITEMS, fail_fast=True)
        return handler.generate_schema(Annotated[list[row], bounds])
