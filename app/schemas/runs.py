"""Requests of runs: the body of a run, and the query of an upload.

Each workload has its own models of a body. The classes here are the default workload's;
`request_model` makes subclasses for other workloads, which differ in `parameters` and `items` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError

from hotloop.app.names import StrategyName
from hotloop.app.schemas.declared import (
    ItemRow,
    Parameters,
    ParametersOf,
    RowsOf,
    check_products,
    example_row,
    flat_parameter_fields,
    flat_parameters,
    model_name,
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

_DEFAULT_PARAMETERS = ParametersOf(DEFAULT_WORKLOAD)


class RunRequest(RunOptions):
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

    made_from: ClassVar[type[RunRequest] | None] = None
    """The class that `request_model` made this model from; None for the classes of this module."""

    items_count: int = Field(default=50_000, ge=1, le=10_000_000)
    """Number of items to generate, with ids 0 … items_count - 1. Not together with `items`."""

    parameters: Annotated[Parameters, _DEFAULT_PARAMETERS] = Field(
        default_factory=_DEFAULT_PARAMETERS.defaults
    )
    """Parameters of the workload."""

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
        return DbSource.SIMULATED if self.items is None else DbSource.NONE

    @property
    def cache_source(self) -> str:
        """The source of the cache stage, with the default of `cache` resolved."""
        if self.cache is not None:
            return self.cache
        return CacheSource.SIMULATED if self.items is None else CacheSource.NONE

    @property
    def changed_parameters(self) -> dict[str, Value]:
        """The parameters that differ from the defaults of the workload."""
        defaults = type(self).model_fields["parameters"].get_default(call_default_factory=True)
        return {name: v for name, v in self.parameters.items() if v != defaults[name]}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the name of the workload: a model that was made for it has no module."""
        made_from, workload = self.made_from or type(self), self.made_from and self.workload
        return _unpickled, (made_from, workload), self.__getstate__()


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

    @classmethod
    def of(cls, request: RunRequest, strategy: StrategyName) -> BackgroundRequest:
        """Return the body of a background task that does the same as this run."""
        # Constructed, so that 100,000 rows are not checked a second time.
        return request_model(cls, request.workload).model_construct(
            request.model_fields_set | {"strategy"},
            **{name: getattr(request, name) for name in RunRequest.model_fields},
            strategy=strategy,
        )


R = TypeVar("R", bound=RunRequest)


def request_model(base: type[R], workload: str) -> type[R]:
    """Return the model of this kind of request for a workload.

    An unknown workload gets the default one's model; its name is refused when the run is planned.
    """
    for declared in declared_workloads():
        if declared.name == workload and declared != DEFAULT_WORKLOAD:
            return _made_model(base, declared)
    return base


@lru_cache
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
        "items": (
            Annotated[Sequence[ItemRow], RowsOf(workload)] | None,
            Field(default=None, description=base.model_fields["items"].description),
        ),
    }
    made = create_model(
        model_name(base.__name__, workload), __base__=base, __doc__=base.__doc__, **fields
    )
    made.made_from = base
    made.model_config["json_schema_extra"] = {
        "examples": [
            {"workload": workload.name, "items_count": 100},
            {"workload": workload.name, "items": [example_row(workload)]},
        ]
    }
    return made


def request_models(base: type[R]) -> dict[str, type[R]]:
    """Return the models of this kind of request by the name of the workload."""
    return {each.name: request_model(base, each.name) for each in declared_workloads()}


class _Named(BaseModel):
    """The name of the workload in a body; all other fields are ignored."""

    workload: Any = None


def read_request(base: type[R], content: str | bytes, *, ignore_unknown: bool = False) -> R:
    """Parse and check the JSON of a request, by the model of its workload.

    Raises ValidationError.
    """
    model, name = base, None
    if len(declared_workloads()) > 1:
        with suppress(ValidationError):  # the request's own model reports the fault
            name = _Named.model_validate_json(content).workload
    if isinstance(name, str):
        model = request_model(base, name)
    return model.model_validate_json(content, extra="ignore" if ignore_unknown else None)


def _unpickled(base: type[R], workload: str | None) -> R:
    model = base if workload is None else request_model(base, workload)
    return model.__new__(model)


class _FlatRunOptions(RunOptions):
    """The fields of a run's body as query fields, with the workload's parameters among them."""

    declared: ClassVar[tuple[Workload, ...]]

    @property
    def parameters(self) -> Parameters:
        """All parameters of the workload."""
        workload = self._declared_workload()
        if len(self.declared) == 1:
            return {p.name: getattr(self, p.name) for p in workload.parameters}
        names = {p.name for each in self.declared for p in each.parameters}
        given = {name: getattr(self, name) for name in names & self.model_fields_set}
        return flat_parameters(workload, given)

    @model_validator(mode="after")
    def _valid_parameters(self) -> Self:
        check_products(self._declared_workload(), self.parameters)
        return self

    def _declared_workload(self) -> Workload:
        # An unknown name is refused when the run is planned.
        by_name = {workload.name: workload for workload in self.declared}
        return by_name.get(self.workload, self.declared[0])


def flat_run_options(workloads: tuple[Workload, ...]) -> type[_FlatRunOptions]:
    """Make the base of query models that have the parameters of these workloads as fields."""
    made = create_model(
        "FlatRunOptions", __base__=_FlatRunOptions, **flat_parameter_fields(workloads)
    )
    made.declared = workloads
    return made


if TYPE_CHECKING:
    FlatRunOptions = _FlatRunOptions
else:
    FlatRunOptions = flat_run_options(declared_workloads())


class UploadQuery(FlatRunOptions):
    """Query of an upload: the fields of a run's body, flat, and the strategy."""

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
