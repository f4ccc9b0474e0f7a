"""Health of the service."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from hotloop.app.schemas.base import RequestModel, ResponseModel


class Health(ResponseModel):
    """The process answers."""

    status: Literal["alive"]
    version: str = Field(examples=["0.1.0"])


class Check(ResponseModel):
    """One part that must work before runs are taken."""

    ready: bool
    detail: str = Field(examples=["2 of 2 run hosts are warm"])
    """In words; says what is missing when not ready."""


class SourceHealth(ResponseModel):
    """A source as the last run that used it found it. It does not decide whether runs are taken."""

    breaker: str = Field(pattern="^(closed|open|half_open)$", examples=["closed"])
    """`open`: the source fails, and calls wait; `half_open`: one call is trying it."""
    openings: int = Field(ge=0)
    """How often its breaker has opened since the service started."""
    changed_at: AwareDatetime | None
    """When the breaker last changed; UTC."""
    detail: str = Field(examples=["no trouble seen"])


class Readiness(ResponseModel):
    """Whether runs are taken, and what stands in the way."""

    ready: bool
    checks: dict[str, Check] = Field(
        examples=[{"run_hosts": {"ready": True, "detail": "2 of 2 run hosts are warm"}}]
    )
    sources: dict[str, SourceHealth]
    """Redis and Pinot, where an address is set."""


class VitalsQuery(RequestModel):
    """Which samples to tell."""

    after: AwareDatetime | None = None
    """Only those taken after this one: the `sampled_at` of the last that was received."""


class VitalsSample(ResponseModel):
    """How the service was between the sample before and this one."""

    sampled_at: AwareDatetime
    event_loop_lag_p99_ms: Annotated[float, Field(ge=0)]
    """How late the API's event loop was, in milliseconds: 99 of 100 looks found less."""
    api_memory_bytes: Annotated[int, Field(ge=0)]
    """Resident memory of the process that answers."""
    runs_memory_bytes: Annotated[int, Field(ge=0)]
    """Resident memory of run hosts and workers; pages that they share count in each."""
    api_cpu_utilization: Annotated[float, Field(ge=0, le=1)]
    """Share of the usable CPUs, 0 … 1, that the process that answers took."""
    runs_cpu_utilization: Annotated[float, Field(ge=0, le=1)]
    """The same of run hosts and workers."""


class Vitals(ResponseModel):
    """Lag, memory and CPU of the service over the last minutes, the newest sample last."""

    sample_seconds: float = Field(gt=0, examples=[5.0])
    """Between two samples; the first is taken sooner."""
    usable_cpus: int = Field(ge=1)
    """That affinity and control groups leave."""
    samples: list[VitalsSample]
    """Empty right after the first request: only then is sampling begun."""
