"""Health of the service."""

from typing import Literal

from pydantic import Field

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


class Readiness(ResponseModel):
    """Whether runs are taken, and what stands in the way."""

    ready: bool
    checks: dict[str, Check] = Field(
        examples=[{"run_hosts": {"ready": True, "detail": "2 of 2 run hosts are warm"}}]
    )
