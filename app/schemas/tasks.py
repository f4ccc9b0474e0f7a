"""Tasks: their state, pages of them, and their events."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, Field, TypeAdapter

from hotloop.app.names import StrategyName, TaskKind, TaskStatus, TaskType
from hotloop.app.schemas.base import UNLINKED, RequestModel, ResponseModel, TaskId, TaskLinks
from hotloop.app.schemas.comparison import Comparison
from hotloop.app.schemas.options import DEFAULT_WORKLOAD, AnyKernel, BatchSize, KernelName
from hotloop.app.schemas.results import Count, RunResult


class Shards(ResponseModel):
    """The parts of a task that are executed separately, possibly on several nodes."""

    total: int = Field(default=1, ge=0)
    """Number of parts; 0 while the task's items are still being received."""
    completed: Count = 0


class TaskProgress(ResponseModel):
    """The progress of a task."""

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
    """Seconds until the end at the throughput so far; null when the task is not running."""
    start_time: AwareDatetime | None
    end_time: AwareDatetime | None
    error_message: str | None
    """The reason why the task failed."""
    attempts: Count = 0
    """Number of times that execution has begun: several after a crash or a resumption."""
    node: str | None = Field(default=None, examples=["node-1"])
    """The node that executes it now."""
    shards: Shards = Shards()
    waiting_for: str | None = Field(
        default=None,
        examples=["a run host", "a node with the kernel cython of the workload loops"],
    )
    """Something that the task needs and no running process has. The task continues by itself once a
    process has it. Null if the task only waits for its turn, is executed, or has ended."""


class TaskSummary(TaskProgress):
    """A task without its result."""

    task_type: TaskType
    kind: TaskKind = TaskKind.RUN
    """Run or comparison; a comparison's items are measurements."""
    strategy: StrategyName | None
    """Null for a comparison, which has several, and for a strategy that this version lacks."""
    kernel: AnyKernel | None
    """Null for a comparison."""
    workload: str = Field(examples=[DEFAULT_WORKLOAD.name])
    workload_version: str | None = Field(default=None, examples=["3f9c2e8b01da"])
    """The version of a user's code, 12 hexadecimal digits; null for built-in workloads."""
    workers: int = Field(ge=1)
    """Requested threads or processes."""
    batch_size: BatchSize
    """Requested items of a batch."""
    db: str = Field(examples=["simulated"])
    """Database stage."""
    cache: str = Field(examples=["none"])
    """Cache stage."""
    created_at: AwareDatetime
    estimated_seconds: Annotated[float, Field(ge=0)] | None = None
    """Estimated seconds of the run when it was accepted; null without an estimate."""
    links: TaskLinks = Field(default_factory=lambda: UNLINKED)


class WebhookView(ResponseModel):
    """The outcome of a task's webhook so far."""

    attempts: Count
    delivered_at: AwareDatetime | None
    """Null until the receiver has confirmed it."""
    error: str | None
    """Why the last attempt failed."""


class TaskView(TaskSummary):
    """A task, with its result once there is one."""

    priority: int = 0
    """Its place among the waiting tasks."""
    webhook: WebhookView | None = None
    """Null for a task without a webhook."""

    result: RunResult | None
    """The result of a run that has ended."""
    comparison: Comparison | None = None
    """The comparison, as soon as anything was measured; its verdict once it has ended."""


class AcceptedRun(TaskView):
    """A run that was asked for synchronously and goes on in the background."""

    message: str | None = None
    """The reason why the run is in the background, and how to avoid it; null if the client asked
    for the background itself."""


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
    """A filter of tasks."""

    status: TaskStatus | None = None
    """List only tasks in this state."""
    strategy: StrategyName | None = None
    """List only tasks run by this strategy."""
    kernel: KernelName | None = None
    """List only tasks run on this kernel."""
    kind: TaskKind | None = None
    """List only runs, or only comparisons."""
    limit: int = Field(default=50, ge=1, le=1_000)
    """Tasks on a page."""
    offset: int = Field(default=0, ge=0, le=2**31 - 1)
    """Tasks to leave out, counted from the newest."""


class ClearedTasks(ResponseModel):
    """The result of clearing."""

    deleted: Count
    """Number of finished tasks that were deleted, with their results."""


_PROGRESS: Final = TypeAdapter(TaskProgress)


@dataclass(frozen=True, eq=False)
class TaskEvent:
    """An event of a task, shared by its watchers."""

    id: str
    """Id of the event within its task: at most 255 visible ASCII characters."""
    event: Literal["progress", "state"]
    data: TaskProgress
    """The task after the event."""

    @cached_property
    def encoded(self) -> bytes:
        """The event in the format of `text/event-stream`."""
        # JSON has no line breaks, which would end the field.
        data = _PROGRESS.dump_json(self.data)
        return b"event: %b\ndata: %b\nid: %b\n\n" % (self.event.encode(), data, self.id.encode())


class EventQuery(RequestModel):
    """A query for the events after a given event."""

    last_event_id: str | None = Field(
        default=None, max_length=255, pattern=r"^[!-~]*$", examples=["12"]
    )
    """The `id` of the last received event; the header Last-Event-ID overrides it."""
