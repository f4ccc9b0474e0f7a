"""The request of a call, which computes a few items at once, and its answer.

Each workload has its own model of a request: `CallRequest` is the default workload's, and
`call_model` makes the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, NotRequired, cast

from pydantic import ConfigDict, Field, create_model, with_config
from typing_extensions import TypedDict

from hotloop.app.names import ITEM_ID
from hotloop.app.schemas.base import RequestModel, ResponseModel, TaskId
from hotloop.app.schemas.declared import (
    MADE_TYPES,
    MAX_INLINE_ITEMS,
    ItemRow,
    Parameters,
    ParametersOf,
    example_result,
    example_row,
    model_name,
    row_fields,
)
from hotloop.app.schemas.options import AUTO, DEFAULT_WORKLOAD, AnyKernel, KernelChoice
from hotloop.app.schemas.results import ItemFailure
from hotloop.kernels import Workload, get_workload


class Record(StrEnum):
    """The ways to keep a call."""

    DURABLE = "durable"
    """The answer comes once the call is stored as a task."""
    LAZY = "lazy"
    """The call is stored soon after the answer; a crash loses those of the last milliseconds."""
    NONE = "none"
    """Nothing is stored, and the answer has no task id."""


_PARAMETERS: Final = ParametersOf(DEFAULT_WORKLOAD)


@lru_cache(MADE_TYPES)
def call_row_type(workload: Workload) -> Any:
    """Make the type of an item of a call: a TypedDict of the input columns and, if the caller wants
    one, an `item_id`.
    """
    fields = row_fields(workload)
    fields[ITEM_ID.name] = NotRequired[fields[ITEM_ID.name]]
    made = cast("Any", TypedDict)(model_name("CallItem", workload), fields)
    made.__doc__ = "One item with its columns; `item_id` is its place, from 0, if left out."
    return with_config(extra="forbid", strict=True, allow_inf_nan=False)(made)


def _items_type(workload: Workload) -> Any:
    row: Any = call_row_type(workload)
    bounds = Field(min_length=1, max_length=MAX_INLINE_ITEMS, fail_fast=True)
    return Annotated[list[row], bounds]


def call_example(workload: Workload) -> dict[str, Any]:
    """Return the body of a call for the documentation."""
    row = {name: v for name, v in example_row(workload).items() if name != ITEM_ID.name}
    return {"items": [row]}


class CallRequest(RequestModel):
    """Body of a call."""

    model_config = ConfigDict(
        strict=True, json_schema_extra={"examples": [call_example(DEFAULT_WORKLOAD)]}
    )

    workload: ClassVar[str] = DEFAULT_WORKLOAD.name
    """The workload, which the path names."""

    items: Sequence[ItemRow]
    """The items with their columns, 1 to 100,000. Few cheap ones are computed at once; others are
    answered as a run."""
    parameters: Annotated[Parameters, _PARAMETERS] = Field(default_factory=_PARAMETERS.defaults)
    """Parameters of the workload."""
    kernel: KernelChoice = AUTO
    """Implementation of the workload. An unavailable kernel is refused with the reason."""
    record: Record = Record.DURABLE
    """Way to keep the call: `durable` answers once the call is stored, `lazy` before that, `none`
    keeps nothing. What is answered as a run is always stored first."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the name of the workload: a model that was made for it has no module."""
        return _unpickled, (self.workload,), self.__getstate__()


def _unpickled(workload: str) -> CallRequest:
    model = call_model(get_workload(workload))
    return model.__new__(model)


_models: Final[dict[str, tuple[Workload, type[CallRequest]]]] = {}
"""The newest model by the workload's name. A declaration takes longer to hash than a call to read.
"""


def call_model(workload: Workload) -> type[CallRequest]:
    """Return the model of a call of a workload."""
    known = _models.get(workload.name)
    if known is not None and known[0] is workload:
        return known[1]
    while len(_models) >= MADE_TYPES:
        del _models[next(iter(_models))]
    model = _call_model(workload)
    _models[workload.name] = workload, model
    return model


def _call_model(workload: Workload) -> type[CallRequest]:
    parameters = ParametersOf(workload)
    words = CallRequest.model_fields
    fields: dict[str, Any] = {
        "items": (_items_type(workload), Field(description=words["items"].description)),
        "parameters": (
            Annotated[Parameters, parameters],
            Field(default_factory=parameters.defaults, description=words["parameters"].description),
        ),
    }
    made = create_model(
        model_name("CallRequest", workload),
        __base__=CallRequest,
        __doc__=CallRequest.__doc__,
        # Descriptions are inherited; looking for docstrings would read this file in a request.
        __cls_kwargs__={"use_attribute_docstrings": False},
        **fields,
    )
    made.workload = workload.name
    made.model_config["json_schema_extra"] = {"examples": [call_example(workload)]}
    return made


class CallOutputs(ResponseModel):
    """An item's output columns. Null where the item failed, and for a float that is NaN or
    infinite.
    """

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {n: v for n, v in example_result(DEFAULT_WORKLOAD).items() if n != ITEM_ID.name}
            ]
        },
    )

    __pydantic_extra__: dict[str, bool | int | float | None]


class CallResult(ResponseModel):
    """The answer of a call."""

    task_id: TaskId | None
    """The task as which the call is stored; null with `record` none."""
    workload: str
    workload_version: str | None
    """The version of an own workload's code."""
    kernel: AnyKernel
    record: Record
    results: list[CallOutputs]
    """A result for each item, in the order of the items."""
    failed_items: int = Field(ge=0)
    errors: list[ItemFailure]
    """Why items failed, at most 100."""
    duration_seconds: float = Field(ge=0)
    """Seconds of the kernel call, which may have computed other callers' items, too; of a run, if
    the call was answered as one."""
