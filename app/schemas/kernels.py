"""Workloads and kernels as this machine has them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hotloop.app.schemas.base import ResponseModel
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, KernelName

Nanoseconds = Annotated[float, Field(ge=0)]


class ColumnView(ResponseModel):
    """A column of a workload; bounds are inclusive, null where there is none."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.columns_in[0].name])
    dtype: str = Field(examples=["float64"])
    description: str
    minimum: float | int | None
    maximum: float | int | None
    unit: str | None
    example: float | int


class ParameterView(ResponseModel):
    """A parameter of a workload; bounds are inclusive."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.parameters[0].name])
    description: str
    dtype: str = Field(examples=["int64"])
    default: float | int
    minimum: float | int
    maximum: float | int
    unit: str | None


class ProductBoundView(ResponseModel):
    """The product of these parameters is at most `maximum`."""

    parameters: list[str]
    maximum: int


class WorkloadView(ResponseModel):
    """What can be computed for an item."""

    name: str = Field(examples=[DEFAULT_WORKLOAD.name])
    description: str
    columns_in: list[ColumnView]
    columns_out: list[ColumnView]
    parameters: list[ParameterView]
    product_bounds: list[ProductBoundView]


class KernelView(ResponseModel):
    """An implementation of a workload, as found and measured at start."""

    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    kernel: KernelName
    available: bool
    reason: str | None
    """Why it is not available, and how to get it."""
    releases_gil: bool
    """Whether threads compute in parallel with it."""
    instruction_set: str | None = Field(examples=["avx2"])
    warm_up_seconds: float = Field(ge=0)
    """Seconds to load and compile it."""
    ns_per_item: Nanoseconds | None
    """Nanoseconds for an item with the default parameters."""
    ns_per_operation: dict[str, Nanoseconds]
    """Nanoseconds for one turn, by term of the workload; empty when not available."""


class KernelList(ResponseModel):
    """Workloads, and their kernels, fastest first."""

    workloads: list[WorkloadView]
    kernels: list[KernelView]
