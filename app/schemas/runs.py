"""Requests of runs: the body of a run, and the query of an upload.

Each workload has its own models of a request. The classes here are the default workload's;
`request_model` makes subclasses for other workloads, which differ in `parameters` and `items` only.
Workloads are declared while the service runs, so a model is made when the first request needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from hotloop.app.names import StrategyName
from hotloop.app.schemas.declared import (
    MADE_TYPES,
    ItemRow,
    Parameters,
    ParametersOf,
    RowsOf,
    example_row,
    model_name,
    unknown_workload,
)
from hotloop.app.schemas.options import (
    AUTO,
    DEFAULT_WORKLOAD,
    CacheSource,
    DbSource,
    RunOptions,
    StrategyChoice,
)
from hotloop.app.wording import RULE
from hotloop.kernels import Workload, declared_workloads
from hotloop.kernels.contract import Value

MOST_SHOWN: Final = 100
"""Most values of an item that is shown as an example."""

_DEFAULT_PARAMETERS = ParametersOf(DEFAULT_WORKLOAD)


class WorkloadOptions(RunOptions):
    """All options of a run except its items."""

    made_from: ClassVar[type[WorkloadOptions] | None] = None
    """The class that `request_model` made this model from; None for a class that was written."""

    is_own: ClassVar[bool] = False
    """True for a model of a function that a user wrote, whose items wait for nothing unasked."""

    parameters: Annotated[Parameters, _DEFAULT_PARAMETERS] = Field(
        default_factory=_DEFAULT_PARAMETERS.defaults
    )
    """Parameters of the workload."""

    @property
    def changed_parameters(self) -> dict[str, Value]:
        """The parameters that differ from the defaults of the workload."""
        defaults = type(self).model_fields["parameters"].get_default(call_default_factory=True)
        return {name: v for name, v in self.parameters.items() if v != defaults[name]}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the name of the workload: a model that was made for it has no module."""
        made_from, workload = self.made_from or type(self), self.made_from and self.workload
        return _unpickled, (made_from, workload), self.__getstate__()


class RunRequest(WorkloadOptions):
    """Body of a run. All fields are optional; `{}` runs the defaults."""

    model_config = ConfigDict(
        # Without `strict`, "5" and 5.0 pass as an integer and 1 as true.
        strict=True,
        json_schema_extra={
            "examples": [
                {"items_count": 100, "db_delay_ms": 10, "workers": 4},
                {"items": [example_row(DEFAULT_WORKLOAD)], "kernel": "python"},
            ]
        },
    )

    items_count: int = Field(default=50_000, ge=1, le=10_000_000)
    """Number of items to generate, with ids 0 … items_count - 1. Not together with `items`."""

    items: Annotated[Sequence[ItemRow], RowsOf(DEFAULT_WORKLOAD)] | None = None
    """Items with their columns, at most 100,000, instead of `items_count`."""

    @model_validator(mode="after")
    def _one_kind_of_items(self) -> Self:
        if self.items is not None and "items_count" in self.model_fields_set:
            raise PydanticCustomError(
                RULE,
                "cannot be given together with items; leave one of the two out",
                {"field": "items_count"},
            )
        return self

    @property
    def total_items(self) -> int:
        return self.items_count if self.items is None else len(self.items)

    @property
    def db_source(self) -> str:
        """The source of the database stage, with the default of `db` resolved."""
        if self.db is not None:
            return self.db
        return DbSource.SIMULATED if self._simulates_waiting else DbSource.NONE

    @property
    def cache_source(self) -> str:
        """The source of the cache stage, with the default of `cache` resolved."""
        if self.cache is not None:
            return self.cache
        return CacheSource.SIMULATED if self._simulates_waiting else CacheSource.NONE

    @property
    def _simulates_waiting(self) -> bool:
        return self.items is None and not self.is_own


class BackgroundRequest(RunRequest):
    """Body of a background task: the fields of a run, and the strategy. `{}` runs the defaults."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items_count": 100, "db_delay_ms": 10, "strategy": "hybrid"},
                {"items_count": 10_000_000, "db": "none", "cache": "none"},
            ]
        },
    )

    strategy: StrategyChoice = AUTO
    """The way to execute batches; `auto` takes the strategy with the lowest estimate."""

    priority: int = Field(default=0, ge=-100, le=100)
    """Tasks of a higher priority begin first; those of the same in the order of their acceptance.
    """

    webhook: str | None = Field(
        default=None, max_length=2_048, examples=["https://example.com/done"]
    )
    """URL to which the end of the task is told, signed and repeated until it is received; see
    `HOTLOOP_WEBHOOK_HOSTS`."""

    @classmethod
    def of(cls, request: RunRequest, strategy: StrategyName) -> BackgroundRequest:
        """Return the body of a background task that does the same as this run."""
        # Constructed, so that 100,000 rows are not checked a second time.
        return request_model(cls, request.workload).model_construct(
            request.model_fields_set | {"strategy"},
            **{name: getattr(request, name) for name in RunRequest.model_fields},
            strategy=strategy,
        )


R = TypeVar("R", bound=WorkloadOptions)


def request_model(base: type[R], workload: str) -> type[R]:
    """Return the model of this kind of request for a workload.

    An unknown workload gets the default one's model; its name is refused when the run is planned.
    """
    for declared in declared_workloads():
        if declared.name == workload != DEFAULT_WORKLOAD.name:
            return _made_model(base, declared)
    return base


@lru_cache(MADE_TYPES)
def _made_model(base: type[R], workload: Workload) -> type[R]:
    parameters = ParametersOf(workload)
    fields: dict[str, Any] = {
        "workload": (str, Field(json_schema_extra={"const": workload.name})),
        "parameters": (
            Annotated[Parameters, parameters],
            Field(
                default_factory=parameters.defaults,
                description=base.model_fields["parameters"].description,
            ),
        ),
    }
    if "items" in base.model_fields:
        fields["items"] = (
            Annotated[Sequence[ItemRow], RowsOf(workload)] | None,
            Field(default=None, description=base.model_fields["items"].description),
        )
    made = create_model(
        model_name(base.__name__, workload),
        __base__=base,
        __doc__=base.__doc__,
        # Descriptions are inherited; looking for docstrings would read this file in a request.
        __cls_kwargs__={"use_attribute_docstrings": False},
        **fields,
    )
    made.made_from = base
    made.is_own = workload.source is not None
    made.model_config["json_schema_extra"] = {"examples": examples(workload)}
    return made


def examples(workload: Workload) -> list[Any]:
    """Return the examples of bodies for a workload that is not the default one."""
    made_up = {"workload": workload.name, "items_count": 100}
    if sum(column.width or 1 for column in workload.columns_in) > MOST_SHOWN:
        return [made_up]
    return [made_up, {"workload": workload.name, "items": [example_row(workload)]}]


def known_workload(base: type[WorkloadOptions], name: str) -> Workload:
    """Return the workload that a request names. Raises ValidationError for an unknown one, because
    faults of its parameters would hide that.
    """
    for declared in declared_workloads():
        if declared.name == name:
            return declared
    error = PydanticCustomError(RULE, "{text}", {"text": unknown_workload(name)})
    fault: InitErrorDetails = {"type": error, "loc": ("workload",), "input": name}
    raise ValidationError.from_exception_data(base.__name__, [fault])


class _Named(BaseModel):
    """The name of the workload in a body; all other fields are ignored."""

    workload: Any = None


def read_request(base: type[R], content: str | bytes, *, ignore_unknown: bool = False) -> R:
    """Parse and check the JSON of a request, by the model of its workload.

    Raises ValidationError.
    """
    name = _name_in(content.encode() if isinstance(content, str) else content)
    if name is not None and not ignore_unknown:
        known_workload(base, name)
    model = base if name is None else request_model(base, name)
    return model.model_validate_json(content, extra="ignore" if ignore_unknown else None)


def _name_in(content: bytes) -> str | None:
    """Return the workload that a body names; None for none, or for a fault that its model reports.

    A body of 100,000 items mostly names none; parsing it only to see that takes long.
    """
    if b'"workload"' not in content and b"\\u" not in content:
        return None
    try:
        name = _Named.model_validate_json(content).workload
    except ValidationError:
        return None
    return name if isinstance(name, str) else None


def _unpickled(base: type[R], workload: str | None) -> R:
    model = base if workload is None else request_model(base, workload)
    return model.__new__(model)


class UploadQuery(WorkloadOptions):
    """Query of an upload: the fields of a run's body except its items, and the strategy."""

    strategy: StrategyName = StrategyName.HYBRID
    """The way to execute batches."""

    @property
    def db_source(self) -> str:
        """The source of the database stage, with the default of `db` resolved."""
        return self.db or DbSource.NONE

    @property
    def cache_source(self) -> str:
        """The source of the cache stage, with the default of `cache` resolved."""
        return self.cache or CacheSource.NONE
