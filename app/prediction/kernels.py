"""Workloads and kernels, as the run hosts found and measured them."""

from __future__ import annotations

from typing import Any

from hotloop import kernels
from hotloop.app.prediction.reported_costs import nanoseconds_per_item
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.runhost.messages import KernelReport
from hotloop.app.schemas.kernels import (
    ColumnView,
    KernelList,
    KernelView,
    ParameterView,
    ProductBoundView,
    WorkloadView,
)


class KernelService:
    """Shows what the run host that started last reported."""

    def __init__(self, hosts: RunHostPool) -> None:
        self._hosts = hosts

    async def list(self) -> KernelList:
        """Raises NotReadyError."""
        return KernelList(
            workloads=[workload_view(name) for name in kernels.workloads()],
            kernels=[_kernel_view(report) for report in await self._hosts.kernels()],
        )


def workload_view(name: str) -> WorkloadView:
    """Return the declaration of a workload, as clients see it."""
    workload = kernels.get_workload(name)
    return WorkloadView(
        name=name,
        description=workload.description,
        columns_in=[_column_view(column) for column in workload.columns_in],
        columns_out=[_column_view(column) for column in workload.columns_out],
        parameters=[
            ParameterView(**{name: getattr(parameter, name) for name in ParameterView.model_fields})
            for parameter in workload.parameters
        ],
        product_bounds=[
            ProductBoundView(parameters=list(bound.parameters), maximum=bound.maximum)
            for bound in workload.product_bounds
        ],
    )


def _column_view(column: kernels.Column) -> ColumnView:
    names = ColumnView.model_fields.keys() - {"example"}
    fields: dict[str, Any] = {name: getattr(column, name) for name in names}
    return ColumnView(**fields, example=column.example())


def _kernel_view(report: KernelReport) -> KernelView:
    operations = kernels.get_workload(report.workload).operations()
    return KernelView(
        workload=report.workload,
        kernel=report.kernel,
        available=report.available,
        reason=report.reason,
        releases_gil=report.releases_gil,
        instruction_set=report.instruction_set,
        warm_up_seconds=report.warm_up_seconds,
        ns_per_item=nanoseconds_per_item(report, operations) if report.available else None,
        ns_per_operation=dict(report.ns_per_operation),
    )
