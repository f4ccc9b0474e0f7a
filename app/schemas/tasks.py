"""Tasks: their state, and pages of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from hotloop.app.names import StrategyName, TaskKind, TaskStatus, TaskType
from hotloop.app.schemas.base import RequestModel, ResponseModel, TaskId
from hotloop.app.schemas.comparison import Comparison
from hotloop.app.schemas.links import TaskLinks
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, BatchSize, KernelName
from hotloop.app.schemas.results import Count, RunResult


class Shards(ResponseModel):
    """The parts of a task that are executed apart from each other, maybe on several nodes."""

    total: int = Field(default=1, ge=0)
    """0 while its items are still coming in."""
    completed: Count = 0


class TaskProgress(ResponseModel):
    """How far a task is."""

    task_id: TaskId
    status: TaskStatus
    items_processed: Count
    """Items handled so far, failed ones included. While the task is running, an item in work counts
    by the share of its stages and its kernel call that it has passed; once the task has ended, only
    items with a stored result count."""
    total_items: Count
    progress: float = Field(ge=0, le=1)
    """items_processed ÷ total_items, 0 … 1."""
    throughput_items_per_second: Annotated[float, Field(ge=0)] | None
    estimated_remaining_seconds: Annotated[float, Field(ge=0)] | None
    """At the throughput so far; null when the task is not running."""
    start_time: AwareDatetime | None
    end_time: AwareDatetime | None
    error_message: str | None
    """Why the task failed."""
    attempts: Count = 0
    """How often its execution has begun: more than once after a crash, or when it was resumed."""
    node: str | None = Field(default=None, examples=["node-1"])
    """The node that executes it now."""
    shards: Shards = Shards()
    waiting_for: str | None = Field(
        default=None,
        examples=["a run host", "a node with the kernel cython of the workload loops"],
    )
    """What the task needs and no process that is up can give it now. It goes on by itself once one
    can. Null when the task only waits for its turn, is executed, or has ended."""


class TaskSummary(TaskProgress):
    """A task without its result."""

    task_type: TaskType
    kind: TaskKind = TaskKind.RUN
    """`comparison`: its items are measurements, and it has no one strategy or kernel."""
    strategy: StrategyName | None
    """Null for a comparison, which has several, and for one that this version does not know."""
    kernel: KernelName | None
    """Null as `strategy`."""
    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    workers: int = Field(ge=1)
    """Threads or processes asked for."""
    batch_size: BatchSize
    """Items of a batch, as asked for."""
    db: str = Field(examples=["simulated"])
    """Database stage."""
    cache: str = Field(examples=["none"])
    """Cache stage."""
    created_at: AwareDatetime
    estimated_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long it was estimated to run when it was accepted; null where nobody could say."""
    links: TaskLinks


class TaskView(TaskSummary):
    """A task, with its result once there is one."""

    result: RunResult | None
    """Of a run that has ended."""
    comparison: Comparison | None = None
    """Of a comparison, as soon as anything was measured; the verdict once it has ended."""


class AcceptedRun(TaskView):
    """A run that was asked for synchronously and goes on in the background."""

    message: str | None = None
    """Why the run is in the background, and how to have it in the foreground; null where the client
    asked for the background itself."""


class TaskPage(ResponseModel):
    """Some of the tasks that match, newest first."""

    items: list[TaskSummary]
    total: Count
    """Tasks that match, on all pages."""
    limit: int = Field(ge=1, le=1_000)
    offset: Count
    next: str | None = Field(examples=["/api/v1/tasks/results?limit=50&offset=50"])
    """Path of the next page; null on the last one."""


class TaskQuery(RequestModel):
    """Which tasks to list."""

    status: TaskStatus | None = None
    """Only those in this state."""
    strategy: StrategyName | None = None
    """Only those run by this strategy."""
    kernel: KernelName | None = None
    """Only those run on this kernel."""
    kind: TaskKind | None = None
    """Only runs, or only comparisons."""
    limit: int = Field(default=50, ge=1, le=1_000)
    """Tasks on a page."""
    offset: int = Field(default=0, ge=0, le=2**31 - 1)
    """Tasks to leave out, counted from the newest."""


class ClearedTasks(ResponseModel):
    """What clearing removed."""

    deleted: Count
    """Finished tasks that are gone, with their results."""
