"""Tasks as clients see them."""

from __future__ import annotations

from typing import Any, Final

from app.names import StrategyName, TaskStatus, TaskType
from app.schemas.results import RunResult, StageView
from app.schemas.tasks import TaskLinks, TaskSummary, TaskView
from app.services.active_run import ActiveRun
from app.tasks.model import FINISHED, Task
from kernels import KernelName

BASE_PATH: Final = "/api/v1/tasks"


def run_result(task: Task) -> RunResult:
    """The result of a task that has ended; fields that were never measured are null."""
    measured: dict[str, Any] = dict(task.measurements or {})
    duration = measured.get("duration_seconds")
    processed = task.items_processed
    return RunResult(
        task_id=task.task_id,
        task_type=TaskType(task.task_type),
        status=task.status,
        items_processed=processed,
        total_items=task.total_items,
        start_time=task.start_time,
        end_time=task.end_time,
        duration_seconds=duration,
        results=measured.get("results", []),
        error_message=task.error_message,
        workload=task.workload,
        kernel=KernelName(task.kernel),
        strategy=StrategyName(task.strategy),
        requested_workers=task.spec["workers"],
        effective_workers=measured.get("effective_workers"),
        batch_size=task.spec["batch_size"],
        setup_seconds=measured.get("setup_seconds"),
        throughput_items_per_second=processed / duration if duration else None,
        io_seconds=measured.get("io_seconds"),
        cpu_seconds=measured.get("cpu_seconds"),
        cpu_utilization=measured.get("cpu_utilization"),
        peak_memory_bytes=measured.get("peak_memory_bytes"),
        failed_items=task.failed_items,
        error_rate=task.failed_items / processed if processed else 0.0,
        errors=measured.get("errors", []),
        stages=[_stage_view(stage) for stage in measured.get("stages", [])],
        event_loop_lag_ms=measured.get("event_loop_lag_ms"),
        checksum=measured.get("checksum"),
    )


def _stage_view(measured: dict[str, Any]) -> StageView:
    asked = measured["hits"] + measured["misses"]
    return StageView(**measured, hit_rate=measured["hits"] / asked if asked else None)


def task_summary(task: Task, active: ActiveRun | None) -> TaskSummary:
    """`active` is there when this process drives the task: it knows more than the store."""
    return TaskSummary(**_summary_fields(task, active))


def task_view(task: Task, active: ActiveRun | None) -> TaskView:
    result = run_result(task) if task.status in FINISHED else None
    return TaskView(**_summary_fields(task, active), result=result)


def _summary_fields(task: Task, active: ActiveRun | None) -> dict[str, Any]:
    processed = task.items_processed if active is None else active.items_processed
    rate: float | None = None
    remaining: float | None = None
    if task.status in FINISHED:
        duration = (task.measurements or {}).get("duration_seconds")
        rate = processed / duration if duration else None
    elif active is not None and active.seconds and processed:
        rate = processed / active.seconds
        if task.status is TaskStatus.RUNNING:
            remaining = (task.total_items - processed) / rate
    return {
        "task_id": task.task_id,
        "task_type": TaskType(task.task_type),
        "status": task.status,
        "strategy": StrategyName(task.strategy),
        "kernel": KernelName(task.kernel),
        "workload": task.workload,
        "items_processed": processed,
        "total_items": task.total_items,
        "progress": processed / task.total_items if task.total_items else 0.0,
        "throughput_items_per_second": rate,
        "estimated_remaining_seconds": remaining,
        "created_at": task.created_at,
        "start_time": task.start_time,
        "end_time": task.end_time,
        "error_message": task.error_message,
        "links": TaskLinks(
            status=f"{BASE_PATH}/status/{task.task_id}",
            results=f"{BASE_PATH}/results/{task.task_id}",
            cancel=f"{BASE_PATH}/{task.task_id}",
        ),
    }
