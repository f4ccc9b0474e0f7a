"""What a run is asked for: the body of a run, and the query of an upload."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator, with_config
from pydantic_core import PydanticCustomError

# The standard library's is not enough for pydantic before Python 3.12.
from typing_extensions import TypedDict

from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import RequestModel
from hotloop.app.schemas.options import CacheSource, DbSource, RunOptions, StrategyChoice
from hotloop.app.wording import RULE

MAX_INLINE_ITEMS: Final = 100_000

CpuIterations = Annotated[int, Field(ge=0, le=10_000_000)]
LoopIterations = Annotated[int, Field(ge=0, le=100_000)]

_MAX_NESTED: Final = 1_000_000_000


def _refuse_large_nesting(outer_iterations: int, inner_iterations: int) -> None:
    if outer_iterations * inner_iterations > _MAX_NESTED:
        raise PydanticCustomError(
            RULE,
            "times inner_iterations must be at most {most} (got {got}); lower one of the two",
            {
                "field": "outer_iterations",
                "most": f"{_MAX_NESTED:,}",
                "got": f"{outer_iterations * inner_iterations:,}",
            },
        )


class Parameters(RequestModel):
    """Parameters of the workload `loops`."""

    model_config = ConfigDict(strict=True)

    cpu_iterations: CpuIterations = 20_000
    """Turns of the floating-point loop of an item."""

    outer_iterations: LoopIterations = 100
    """Outer turns of the nested integer loop; times inner_iterations at most 1,000,000,000."""

    inner_iterations: LoopIterations = 200
    """Inner turns of the nested integer loop."""

    @model_validator(mode="after")
    def _bounded_nesting(self) -> Self:
        _refuse_large_nesting(self.outer_iterations, self.inner_iterations)
        return self


# A dict and not a model, which takes three times as long for 100,000 of them.
@with_config(extra="forbid", strict=True, allow_inf_nan=False)
class ItemRow(TypedDict):
    """One item with its columns."""

    item_id: Annotated[
        int, Field(ge=0, le=2**63 - 1, description="Names the item in results and errors.")
    ]
    value: Annotated[
        float, Field(ge=0, le=1e6, description="Where the floating-point loop starts.")
    ]
    offset: Annotated[
        int,
        Field(ge=0, le=2**31 - 1, description="Added to every product of the nested loop."),
    ]


class RunRequest(RunOptions):
    """Body of a run. All fields are optional; `{}` runs the defaults."""

    model_config = ConfigDict(
        # Without it "5" and 5.0 pass as an integer and 1 as true.
        strict=True,
        json_schema_extra={
            "examples": [
                {"items_count": 100, "db_delay_ms": 10, "workers": 4},
                {"items": [{"item_id": 1, "value": 0.5, "offset": 7}], "kernel": "python"},
            ]
        },
    )

    items_count: int = Field(default=50_000, ge=1, le=10_000_000)
    """Items to make up: ids 0 … items_count - 1. Not together with `items`."""

    parameters: Parameters = Field(default_factory=Parameters)
    """Parameters of the workload."""

    items: (
        Annotated[list[ItemRow], Field(min_length=1, max_length=MAX_INLINE_ITEMS, fail_fast=True)]
        | None
    ) = None
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


class BackgroundRequest(RunRequest):
    """Body of a background task: that of a run, and the strategy. `{}` runs the defaults."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"items_count": 100, "db_delay_ms": 10, "strategy": "hybrid"},
                {"items_count": 10_000_000, "db": "none", "cache": "none"},
            ]
        },
    )

    strategy: StrategyChoice = StrategyChoice.AUTO
    """How batches are executed; `auto` takes what is estimated to be the fastest here."""

    @classmethod
    def of(cls, request: RunRequest, strategy: StrategyName) -> Self:
        """The background task that does what this run would do."""
        # Constructed, because 100,000 rows need not be checked a second time.
        return cls.model_construct(
            request.model_fields_set | {"strategy"},
            **{name: getattr(request, name) for name in RunRequest.model_fields},
            strategy=StrategyChoice(strategy),
        )


class FlatRunOptions(RunOptions):
    """The fields of a run's body as a query has them: the workload's parameters beside the rest."""

    cpu_iterations: CpuIterations = 20_000
    """Turns of the floating-point loop of an item."""

    outer_iterations: LoopIterations = 100
    """Outer turns of the nested integer loop; times inner_iterations at most 1,000,000,000."""

    inner_iterations: LoopIterations = 200
    """Inner turns of the nested integer loop."""

    @model_validator(mode="after")
    def _bounded_nesting(self) -> Self:
        _refuse_large_nesting(self.outer_iterations, self.inner_iterations)
        return self

    @property
    def parameters(self) -> Parameters:
        return Parameters(
            cpu_iterations=self.cpu_iterations,
            outer_iterations=self.outer_iterations,
            inner_iterations=self.inner_iterations,
        )


class UploadQuery(FlatRunOptions):
    """Query of an upload: the fields of a run's body, flat, and the strategy."""

    strategy: StrategyName = StrategyName.HYBRID
    """How batches are executed."""

    @property
    def db_source(self) -> str:
        """The source of the database stage, with the default of `db` resolved."""
        return self.db or DbSource.NONE

    @property
    def cache_source(self) -> str:
        """The source of the cache stage, with the default of `cache` resolved."""
        return self.cache or CacheSource.NONE
