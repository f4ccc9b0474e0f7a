"""What the service offers: the index of the service and that of the task routes."""

from __future__ import annotations

from pydantic import Field

from hotloop.app.names import StrategyName
from hotloop.app.schemas.base import ResponseModel


class ServiceIndex(ResponseModel):
    """The service and where its parts are."""

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
