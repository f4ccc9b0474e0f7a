"""The service itself: its index, health and vitals, workloads and kernels, and sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import RequestModel, ResponseModel
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, AnyKernel


class ServiceIndex(ResponseModel):
    """The service, with links to its parts."""

    name: str = Field(examples=["hotloop"])
    version: str = Field(examples=["0.1.0"])
    description: str
    links: dict[str, str] = Field(examples=[{"docs": "/docs", "health": "/health"}])
    """Paths on this server, by what is there."""


class StrategyView(ResponseModel):
    """A way to execute a run."""

    name: StrategyName
    description: str
    method: str = Field(examples=["POST"])
    href: str = Field(examples=["/api/v1/tasks/hybrid"])


class TaskIndex(ResponseModel):
    """The strategies, and the other routes below this one."""

    strategies: list[StrategyView]
    links: dict[str, str] = Field(examples=[{"kernels": "/api/v1/tasks/kernels"}])
    """Paths on this server, by what is there."""


class Health(ResponseModel):
    """The state of a process that answers."""

    status: Literal["alive"]
    version: str = Field(examples=["0.1.0"])


class Check(ResponseModel):
    """A part that must work before the service takes runs."""

    ready: bool
    detail: str = Field(examples=["2 of 2 run hosts are warm"])
    """The state in words; if not ready, what is missing."""


class SourceHealth(ResponseModel):
    """The state of a source in the last run that used it; it does not affect readiness."""

    breaker: str = Field(pattern="^(closed|open|half_open)$", examples=["closed"])
    """`open`: the source fails, and calls wait; `half_open`: one call is trying it."""
    openings: int = Field(ge=0)
    """Number of times that the breaker has opened since the service started."""
    changed_at: AwareDatetime | None
    """The last change of the breaker; UTC."""
    detail: str = Field(examples=["no trouble seen"])


class ClusterHealth(ResponseModel):
    """The cluster of a strategy; it does not affect readiness."""

    name: StrategyName
    state: Literal["up", "down"]
    """`down`: runs by the strategy are refused, and tasks wait."""
    reason: str | None
    """The reason for which the cluster counts as down; null while it is up."""
    since: AwareDatetime
    """The time of the last change; UTC."""


class Readiness(ResponseModel):
    """The readiness to take runs, and what is missing for it."""

    ready: bool
    checks: dict[str, Check] = Field(
        examples=[{"run_hosts": {"ready": True, "detail": "2 of 2 run hosts are warm"}}]
    )
    sources: dict[str, SourceHealth]
    """Redis and Pinot, where an address is set."""
    clusters: list[ClusterHealth] = Field(default=[])
    """Ray and Dask, where an address is set."""


class VitalsQuery(RequestModel):
    """A query for the newest samples."""

    after: AwareDatetime | None = None
    """Leave out samples up to this time: the `sampled_at` of the last one received."""


class VitalsSample(ResponseModel):
    """The state of the service between the sample before and this one."""

    sampled_at: AwareDatetime
    event_loop_lag_p99_ms: Annotated[float, Field(ge=0)]
    """The delay of the API's event loop in milliseconds: 99 of 100 checks found less."""
    api_memory_bytes: Annotated[int, Field(ge=0)]
    """Resident memory of the answering process."""
    runs_memory_bytes: Annotated[int, Field(ge=0)]
    """Resident memory of run hosts and workers; pages that they share count in each."""
    api_cpu_utilization: Annotated[float, Field(ge=0, le=1)]
    """Share of the usable CPUs, 0 … 1, that the answering process used."""
    runs_cpu_utilization: Annotated[float, Field(ge=0, le=1)]
    """Share of the usable CPUs, 0 … 1, that run hosts and workers used."""


class Vitals(ResponseModel):
    """Lag, memory and CPU of the service over the last minutes, the newest sample last."""

    sample_seconds: float = Field(gt=0, examples=[5.0])
    """Seconds between two samples; the first comes sooner."""
    usable_cpus: int = Field(ge=1)
    """CPUs that affinity and control groups leave."""
    samples: list[VitalsSample]
    """The samples; empty right after the first request, which starts the sampling."""


Nanoseconds = Annotated[float, Field(ge=0)]


class ColumnView(ResponseModel):
    """A column of a workload; bounds are inclusive, null where there is none."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.columns_in[0].name])
    dtype: str = Field(examples=["float64"])
    """An integer or a float of numpy, or `bool`."""
    width: int | None = Field(ge=1)
    """Number of values that each item has; null for a single value."""
    description: str
    minimum: float | int | None
    maximum: float | int | None
    unit: str | None
    example: bool | float | int
    """A value; for a vector, one of its values."""


class ParameterView(ResponseModel):
    """A parameter of a workload; bounds are inclusive, null where there is none."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.parameters[0].name])
    description: str
    dtype: str = Field(examples=["int64"])
    """`int64`, `float64`, `bool`, or `choice` for one of `choices`."""
    default: bool | float | int | str
    minimum: float | int | None
    maximum: float | int | None
    choices: list[bool | float | int | str]
    """The values of a choice; empty for any other parameter."""
    unit: str | None


class ProductBoundView(ResponseModel):
    """The product of these parameters is at most `maximum`."""

    parameters: list[str]
    maximum: int


class TermView(ResponseModel):
    """A part of an item's cost."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.terms[0].name])
    operations: str = Field(examples=["steps * (steps + 1) / 2"])
    """Number of elementary operations for an item, as an expression of the parameters."""


class WorkloadView(ResponseModel):
    """The declaration of a workload."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.name])
    description: str
    columns_in: list[ColumnView]
    columns_out: list[ColumnView]
    parameters: list[ParameterView]
    product_bounds: list[ProductBoundView]
    terms: list[TermView]
    """The parts of an item's cost, which add up."""
    depends_on_data: bool
    """True if an item's cost depends on its columns; `terms` then only counts items."""
    source: str | None = Field(examples=["prices:american_put"])
    """Module and name of the function that a user wrote; null for a workload of the service."""
    version: str | None = Field(examples=["3f9c2e8b01da"])
    """The version of a user's code, 12 hexadecimal digits; null for a workload of the service."""


class KernelView(ResponseModel):
    """An implementation of a workload, as found and measured."""

    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    kernel: AnyKernel
    available: bool
    examined: bool
    """False for a kernel of an own workload of which nothing is known yet. A request for it has it
    examined first, and an idle service examines it unasked."""
    reason: str | None
    """The reason why it is not available, and how to get it."""
    certificate: str | None = Field(default=None, examples=["2e72dcb7d7e3c0f9"])
    """The hash of its certificate, which `hotloop check` has made; `failed` if it found a fault;
    null if it has not looked at this version."""
    releases_gil: bool
    """True if threads compute in parallel with it."""
    instruction_set: str | None = Field(examples=["avx2"])
    warm_up_seconds: float = Field(ge=0)
    """Seconds to load and compile the kernel."""
    ns_per_item: Nanoseconds | None
    """Nanoseconds for an item with the default parameters."""
    ns_per_operation: dict[str, Nanoseconds]
    """Nanoseconds for one turn, by term of the workload; empty when not available."""


class OwnWorkloadView(ResponseModel):
    """What became of a target that the operator named, or of one of its workloads."""

    target: str = Field(examples=["prices:american_put"])
    workload: str | None
    """The name of the workload; null as long as it is not known, or if the target has none."""
    state: Literal["loading", "available", "failed"]
    reason: str | None
    """The reason why it failed, with file and line where known."""


class KernelList(ResponseModel):
    """Workloads, and their kernels, fastest first."""

    workloads: list[WorkloadView]
    kernels: list[KernelView]
    own_workloads: list[OwnWorkloadView]
    """The operator's own workloads, `HOTLOOP_WORKLOADS`, in the order of their targets."""


class SignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(description="A key of `HOTLOOP_API_KEYS`.")


class SessionView(BaseModel):
    """The client of a request; all fields are null for a client that must sign in."""

    name: str | None = Field(description="The client; null if it must sign in.")
    scope: str | None = Field(description="The client's highest scope: `read`, `run`, `admin`.")
    expires_at: datetime | None = Field(
        description="Time when the client must sign in again; null if it need not."
    )
