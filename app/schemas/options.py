"""Options of a run: the fields that a run's body and an upload's query share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticCustomError, PydanticKnownError, core_schema

from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import RequestModel
from hotloop.app.wording import RULE, echo
from hotloop.kernels import declared_workloads

AUTO: Final = "auto"

DEFAULT_WORKLOAD: Final = declared_workloads()[0]
"""The workload of a request that names none."""

LARGEST_BATCH: Final = 1_000_000
"""Items of the largest batch that a client may ask for."""


@dataclass(frozen=True)
class _Names:
    """A type for pydantic whose names are known only when it is used.

    It is documented as the enumeration `title`. Other names are refused in pydantic's words for an
    enumeration.
    """

    title: str
    description: str
    names: Callable[[], Sequence[str]]
    read: Callable[[str], str] = str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._known, ref=self.title)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {
            "type": "string",
            "title": self.title,
            "description": self.description,
            "enum": list(self.names()),
        }

    def _known(self, name: object) -> str:
        names = self.names()
        if isinstance(name, str) and name in names:
            return self.read(name)
        *most, last = map(repr, map(str, names))
        expected = f"{', '.join(most)} or {last}" if most else last
        raise PydanticKnownError("enum", {"expected": expected})


@dataclass(frozen=True)
class _OneOf:
    """Annotation of a `str` that must be one of these names."""

    type: _Names

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return handler.generate_schema(self.type)


def kernel_names() -> list[str]:
    """Return the names of the kernels of all workloads, each once."""
    return list(dict.fromkeys(each.kernel for w in declared_workloads() for each in w.kernels))


KernelName = Annotated[
    str, _OneOf(_Names("KernelName", "The implementations a workload may have.", kernel_names))
]

AnyKernel = Annotated[str, Field(examples=["cython"])]
"""A kernel in an answer: its workload need not be declared any more, or in the reader's process."""

KernelChoice = Annotated[
    str,
    _OneOf(
        _Names(
            "KernelChoice",
            "A kernel, or `auto` for the fastest available one as measured at start.",
            lambda: [AUTO, *kernel_names()],
        )
    ),
]

StrategyChoice = Annotated[
    StrategyName | Literal["auto"],
    _OneOf(
        _Names(
            "StrategyChoice",
            "A strategy, or `auto` for the one with the lowest estimate on this machine.",
            lambda: [AUTO, *StrategyName],
            lambda name: name if name == AUTO else StrategyName(name),
        )
    ),
]


class DbSource(StrEnum):
    """The built-in sources of the database stage; settings may add others."""

    SIMULATED = "simulated"
    """A wait."""
    PINOT = "pinot"
    NONE = "none"
    """The stage is left out."""


class CacheSource(StrEnum):
    """The built-in sources of the cache stage; settings may add others."""

    SIMULATED = "simulated"
    """A wait."""
    REDIS = "redis"
    NONE = "none"
    """The stage is left out."""


SourceName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$", examples=["simulated"])
]


class CacheMode(StrEnum):
    """The use of the cache."""

    LOOKUP = "lookup"
    """Every item goes to the database, then to the cache."""
    ASIDE = "aside"
    """Every item goes to the cache first, and to the database only if the cache lacks it."""


def _low_to_high(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise PydanticCustomError(
            RULE,
            "must be [low, high] with low at most high (got {low} and {high}); swap the two",
            {"low": f"{pair[0]:g}", "high": f"{pair[1]:g}"},
        )
    return pair


Milliseconds = Annotated[float, Field(ge=0, le=60_000)]


def _size_or_auto(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """Refuse a value in one sentence; the union itself refuses it once for each member."""
    try:
        return handler(value)
    except ValidationError as error:
        raise PydanticCustomError(
            RULE,
            "must be auto, or an integer from 1 to {most} (got {got})",
            {"most": f"{LARGEST_BATCH:,}", "got": echo(value)},
        ) from error


BatchSize = Annotated[
    Annotated[int, Field(ge=1, le=LARGEST_BATCH)] | Literal["auto"], WrapValidator(_size_or_auto)
]


class RunOptions(RequestModel):
    """All options of a run except its items and the workload's parameters."""

    batch_size: BatchSize = AUTO
    """Items that are computed, stored and reported together. `auto` chooses a size that keeps every
    worker busy; the result says which."""

    workers: int = Field(default=4, ge=1, le=256)
    """Requested threads or processes; the result says how many were used."""

    io_concurrency: int = Field(default=1_000, ge=1, le=20_000)
    """Items in flight in the I/O stages of `async-batch` and `hybrid`."""

    kernel: KernelChoice = AUTO
    """Implementation of the workload. An unavailable kernel is refused with the reason."""

    workload: str = Field(
        default=DEFAULT_WORKLOAD.name, min_length=1, max_length=64, pattern=r"^[a-z][a-z0-9_-]*$"
    )
    """The computation for each item; `GET /api/v1/tasks/kernels` lists the names."""

    db: SourceName | None = None
    """Database stage: `simulated`, `pinot`, `none`, or a source from the settings. The default is
    `none` for items that come with their columns (`items`, or an upload) and for functions of your
    own, else `simulated`."""

    cache: SourceName | None = None
    """Cache stage: `simulated`, `redis`, `none`, or a source from the settings, with the same
    default as `db`."""

    cache_mode: CacheMode = CacheMode.LOOKUP
    """`lookup`: database, then cache, for every item. `aside`: Redis first, and a query only for
    items that Redis lacks."""

    query_batch_size: int = Field(default=500, ge=1, le=10_000)
    """Items that one Pinot query, or one round trip to Redis, asks for."""

    simulate_db_delay: bool = True
    """False: the simulated database answers at once."""

    simulate_redis_delay: bool = True
    """False: the simulated cache answers at once."""

    db_delay_ms: Milliseconds = 1_000.0
    """Milliseconds the simulated database takes for an item."""

    redis_delay_ms: Annotated[tuple[Milliseconds, Milliseconds], AfterValidator(_low_to_high)] = (
        1.0,
        10.0,
    )
    """Least and most milliseconds the simulated cache takes for an item; uniform between."""

    timeout_seconds: float | None = Field(default=None, ge=0.1, le=86_400, examples=[60.0])
    """Seconds after which the run ends as failed; no limit by default."""

    max_error_rate: float = Field(default=1.0, ge=0, le=1)
    """Share of all items that may fail; above it the run ends early as failed."""
