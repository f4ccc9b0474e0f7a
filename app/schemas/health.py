"""Health of the service."""

from typing import Literal

from pydantic import AwareDatetime, Field

from app.schemas.base import ResponseModel


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
