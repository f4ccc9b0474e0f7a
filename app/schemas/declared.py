"""Parts of the request models that are made from the declaration of a workload.

`ParametersOf` and `RowsOf` stand in an annotation: the field is checked and documented as the
workload declares it, and code reads it by name, as a mapping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Self, cast

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    create_model,
    model_validator,
    with_config,
)
from pydantic_core import PydanticCustomError, core_schema

# Before Python 3.12 pydantic cannot use the standard library's TypedDict.
from typing_extensions import TypedDict

from hotloop.app.names import ITEM_ID
from hotloop.app.schemas.base import RequestModel
from hotloop.app.wording import RULE
from hotloop.kernels import Column, Parameter, Workload, declared_workloads
from hotloop.kernels.contract import Value

MAX_INLINE_ITEMS: Final = 100_000

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
    return name if workload == declared_workloads()[0] else f"{name}_{workload.name}"


def sentence(text: str) -> str:
    """Return the words of a declaration as a sentence."""
    return f"{text[:1].upper()}{text[1:]}."


def check_products(workload: Workload, parameters: Parameters) -> None:
    """Refuse parameters whose product is too large. Raises PydanticCustomError."""
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


def parameter_field(workload: Workload, parameter: Parameter) -> tuple[Any, Any]:
    """Return a parameter as a field for `create_model`."""
    text = parameter.description
    for bound in workload.product_bounds:
        first, *rest = bound.parameters
        if first == parameter.name:
            text += f"; times {' times '.join(rest)} at most {bound.maximum:,}"
    return int if parameter.is_integer else float, Field(
        default=parameter.default,
        ge=parameter.minimum,
        le=parameter.maximum,
        description=sentence(text),
    )


class _ParametersModel(RequestModel):
    model_config = ConfigDict(strict=True)

    workload: ClassVar[Workload]

    @model_validator(mode="after")
    def _bounded_products(self) -> Self:
        check_products(self.workload, self.__dict__)
        return self


@lru_cache
def parameters_model(workload: Workload) -> type[RequestModel]:
    """Make the model of a workload's parameters, each an optional field."""
    fields: dict[str, Any] = {p.name: parameter_field(workload, p) for p in workload.parameters}
    model = create_model(
        model_name("Parameters", workload),
        __base__=_ParametersModel,
        __doc__=f"Parameters of the workload `{workload.name}`.",
        **fields,
    )
    model.workload = workload
    return model


@lru_cache
def row_type(workload: Workload) -> Any:
    """Make the type of an item in a body: a TypedDict of `item_id` and the input columns."""
    fields = {column.name: _row_field(column) for column in (ITEM_ID, *workload.columns_in)}
    # A dict and not a model, which takes three times as long for 100,000 of them.
    made = cast("Any", TypedDict)(model_name("ItemRow", workload), fields)
    made.__doc__ = "One item with its columns."
    return with_config(extra="forbid", strict=True, allow_inf_nan=False)(made)


def _row_field(column: Column) -> Any:
    least, greatest = column.limits
    return Annotated[
        int if column.is_integer else float,
        Field(ge=least, le=greatest, description=sentence(column.description)),
    ]


class ParametersOf:
    """Annotation of a field with the parameters of a workload; the value has all of them."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self._defaults: Final = {p.name: p.default for p in workload.parameters}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        model = parameters_model(self.workload)
        # Not strict, so that a dict is accepted for the model. Its fields are strict.
        return handler.generate_schema(
            Annotated[model, Field(strict=False), AfterValidator(vars), PlainSerializer(dict)]
        )

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


def flat_parameter_fields(workloads: Sequence[Workload]) -> dict[str, Any]:
    """Return the parameters of all workloads as fields of a query.

    With a single workload they have its bounds and defaults. With several workloads they have no
    defaults, and the bounds are checked once the workload is known.
    """
    if len(workloads) == 1:
        (only,) = workloads
        return {p.name: parameter_field(only, p) for p in only.parameters}
    fields: dict[str, Any] = {}
    for workload in workloads:
        for parameter in workload.parameters:
            words = sentence(f"{parameter.description}; for the workload `{workload.name}`")
            kind: Any = int if parameter.is_integer else float
            if parameter.name in fields:
                before, field = fields[parameter.name]
                kind, words = before | kind, f"{field.description} {words}"
            fields[parameter.name] = (kind | None, Field(default=None, description=words))
    return fields


def flat_parameters(workload: Workload, given: Parameters) -> dict[str, Value]:
    """Return all parameters of a workload, from the parameters that a query gave.

    Raises PydanticCustomError for a parameter of another workload, and ValidationError for a value
    that is out of bounds.
    """
    names = [parameter.name for parameter in workload.parameters]
    for name in given:
        if name not in names:
            raise PydanticCustomError(
                RULE,
                "is not a parameter of the workload {workload}, which has {names}",
                {"field": name, "workload": workload.name, "names": ", ".join(names) or "none"},
            )
    return vars(parameters_model(workload).model_validate(given))
