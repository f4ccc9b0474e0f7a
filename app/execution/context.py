"""What tasks are executed with, and what the body of each kind of task has to give."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hotloop.app.errors import RunCancelledError, ServiceError, StoreError
from hotloop.app.execution.client_limits import ClientStorage
from hotloop.app.names import TaskKind, TaskStatus
from hotloop.app.observability.lag import LoopLagMonitor
from hotloop.app.observability.metrics import Metrics
from hotloop.app.observability.sources import SourceMonitor
from hotloop.app.prediction.calibrations import Calibrations
from hotloop.app.prediction.memory import MemoryBudget
from hotloop.app.records import JsonObject
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.schemas.links import TaskLinks
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread

if TYPE_CHECKING:
    from hotloop.app.execution.runner import Work

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Record(Protocol):
    """What a shard has measured over all its executions. It grows while one of them goes on."""

    @property
    def items_processed(self) -> int: ...

    @property
    def failed_items(self) -> int: ...

    @property
    def duration_seconds(self) -> float | None:
        """Seconds over all executions; None before the first."""
        ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """What earlier executions of a shard have stored, for one that has measured nothing yet."""

    shard: Shard
    duration_seconds: float | None = None

    @property
    def items_processed(self) -> int:
        return self.shard.items_processed

    @property
    def failed_items(self) -> int:
        return self.shard.failed_items

    def to_json(self) -> dict[str, Any]:
        return dict(self.shard.details or {})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an execution ended, and what the shard had measured by then."""

    error: ServiceError | None
    measured: JsonObject
    items_processed: int
    failed_items: int
    duration_seconds: float | None

    @classmethod
    def of(cls, error: ServiceError | None, record: Record) -> Outcome:
        return cls(
            error,
            record.to_json(),
            record.items_processed,
            record.failed_items,
            record.duration_seconds,
        )

    @property
    def status(self) -> TaskStatus:
        if self.error is None:
            return TaskStatus.COMPLETED
        if isinstance(self.error, RunCancelledError):
            return TaskStatus.CANCELLED
        return TaskStatus.FAILED


class Body(Protocol):
    """What tasks of one kind execute, measure and show. The runner does everything else."""

    async def execute(self, work: Work) -> None:
        """Execute a shard: get its items, begin, and keep `work.record` up to date. Raises what
        ends it before its time.
        """
        ...

    def summarize(self, shards: Sequence[Shard]) -> JsonObject:
        """Make a task's measurements out of its shards'. Never raises."""
        ...

    def count_end(self, metrics: Metrics, task: Task, shard: Shard, outcome: Outcome) -> None:
        """Count the end of an execution of `shard`, which is as it was at its beginning."""
        ...

    def duration_seconds(self, shard: Shard) -> float | None:
        """Seconds that the executions of a shard took. Raises UnreadableTaskError, TypeError."""
        ...

    def view(
        self, store: TaskStore, task: Task, shards: Sequence[Shard], links: TaskLinks
    ) -> dict[str, Any]:
        """The fields of a task's view that only its kind has. Blocks. Raises UnreadableTaskError,
        StoreError, and ValueError, KeyError or TypeError for rows that make no sense.
        """
        ...


Bodies = Mapping[str, Body]
"""The body of each TaskKind."""


def body_of(bodies: Bodies, kind: str) -> Body:
    """The body of a kind of task; that of a run for kinds that this version does not know."""
    return bodies.get(kind) or bodies[TaskKind.RUN]


@dataclass(frozen=True, slots=True)
class RunContext:
    """What tasks are executed with, for the life of the process."""

    settings: Settings
    usable_cpus: int
    node: str
    """This process, as the store names it."""
    hosts: RunHostPool
    calibrations: Calibrations
    store: TaskStore
    folder: DataFolder
    lag: LoopLagMonitor
    sources: SourceMonitor
    metrics: Metrics
    memory: MemoryBudget
    storage: ClientStorage
    bodies: Bodies


def withdraw(context: RunContext, task_id: str) -> None:
    """Forget a task that never ran, as if it had never been asked for. Blocks.

    Raises StoreError, TaskNotFoundError, and TaskConflictError when it has begun.
    """
    context.store.withdraw(task_id)
    context.folder.remove(task_id)


def drop_files(context: RunContext, task_id: str) -> None:
    """Remove the files of a task that has ended for good. Blocks."""
    try:
        context.folder.remove(task_id)
    except StoreError as error:
        logger.warning("%s; upkeep removes it later", error)


async def to_the_end(call: Callable[..., T], *args: object) -> T:
    """Run the call in a thread and return what it made, even when cancelled meanwhile: the
    cancellation then comes with the next await, when somebody is there to clean up.
    """
    work = asyncio.ensure_future(in_store_thread(call, *args))
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            cancelled = True
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.cancel()
    return work.result()
