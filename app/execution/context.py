"""Shared objects that executions use, and the interface that each kind of task implements."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from hotloop.app.check.storage import Certificates
from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import RunCancelledError, ServiceError, StoreError
from hotloop.app.execution.client_limits import ClientStorage
from hotloop.app.names import TaskKind, TaskStatus
from hotloop.app.observability.clusters import ClusterMonitor
from hotloop.app.observability.health import SourceMonitor
from hotloop.app.observability.lag import LoopLagMonitor
from hotloop.app.observability.metrics import Metrics
from hotloop.app.prediction.calibrations import Calibrations
from hotloop.app.prediction.memory import MemoryBudget
from hotloop.app.records import JsonObject
from hotloop.app.runhost.client import RunHostClient
from hotloop.app.runhost.host_pool import RunHostPool
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.base import Items
from hotloop.app.strategies.base import Plan
from hotloop.app.tasks.claims import Claim
from hotloop.app.tasks.folder import DataFolder
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.workloads.catalogue import Catalogue

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Record(Protocol):
    """Measurements of a shard over all its executions. They grow during an execution."""

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
    """Stored measurements of earlier executions, for an execution without any of its own yet."""

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
    """End of an execution, and the shard's measurements up to then."""

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
    """Executes, measures and shows tasks of one kind. The runner does everything else."""

    async def execute(self, work: Work) -> None:
        """Execute a shard: get its items, begin, and keep `work.record` up to date. Raises the
        error that ends the execution early.
        """
        ...

    async def batch_seconds(self, context: RunContext, task: Task, shard: Shard) -> float:
        """Predict the seconds until an execution of the shard stores its next results. May raise
        anything if this process cannot tell.
        """
        ...

    def summarize(self, shards: Sequence[Shard]) -> JsonObject:
        """Add up the shards' measurements into the task's. Never raises."""
        ...

    def count_end(self, metrics: Metrics, task: Task, shard: Shard, outcome: Outcome) -> None:
        """Count the end of an execution; `shard` is its row from the execution's beginning."""
        ...

    def duration_seconds(self, task: Task, shards: Sequence[Shard]) -> float | None:
        """Return the seconds that a task took, None if unknown. Raises UnreadableTaskError,
        TypeError.
        """
        ...

    def view(self, store: TaskStore, task: Task, shards: Sequence[Shard]) -> dict[str, Any]:
        """Return the fields of a task's view that only its kind has. Blocks. Raises StoreError,
        UnreadableTaskError, and ValueError, KeyError or TypeError for damaged rows.
        """
        ...


Bodies = Mapping[str, Body]
"""The body of each TaskKind."""


def body_of(bodies: Bodies, kind: str) -> Body:
    """Return the body of a kind of task; the body of runs for a kind this version does not know."""
    return bodies.get(kind) or bodies[TaskKind.RUN]


@dataclass(frozen=True, slots=True)
class RunContext:
    """Objects that all executions share, for the life of the process."""

    settings: Settings
    usable_cpus: int
    node: str
    """This process's name in the store."""
    hosts: RunHostPool
    catalogue: Catalogue
    calibrations: Calibrations
    store: TaskStore
    folder: DataFolder
    lag: LoopLagMonitor
    sources: SourceMonitor
    clusters: ClusterMonitor
    metrics: Metrics
    memory: MemoryBudget
    storage: ClientStorage
    certificates: Certificates
    bodies: Bodies


class TaskInput(Protocol):
    """Items that come with a request, and are written to a file of the task."""

    size: int
    """Approximate bytes of the file; for an upload, the bytes received so far."""
    sha256: str | None
    """Digest of the file; None until it is received."""

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        """Write the items to the file. Raises StoreError, and the errors of an upload's stream."""
        ...


@dataclass(frozen=True, slots=True)
class Once:
    """The policy for a task whose client waits: it begins once its items are there, is never tried
    again, and is cancelled when its client disconnects.
    """

    source: TaskInput | None = None
    """Items still to be received; None for generated items."""
    plan: Callable[[Items], Awaitable[Plan]] | None = None
    """Function that makes a run's plan once its items are known, or raises to refuse the task."""
    place: ExitStack | None = None
    """The place that the task already has in the line for a run host."""
    items: Items | None = None
    """The items, if they are in no file."""


@dataclass(frozen=True, slots=True)
class Durable:
    """The policy for a shard claimed from the queue: it has begun, is tried again after failures
    that may be temporary, and is handed over when this process stops.
    """


DURABLE: Final = Durable()

Policy = Once | Durable


class ActiveRun:
    """A shard that this process executes, and that can be cancelled at any moment.

    `driver` is the asyncio task that drives it. Before the run has begun, `cancel` cancels the
    driver; later it asks the run host to end the run, so that finished batches are still stored.
    """

    def __init__(self, policy: Policy = DURABLE) -> None:
        self.policy = policy
        self.driver: asyncio.Task[Any] | None = None
        self.is_cancelled = False
        self._client: RunHostClient | None = None

    def begins_on(self, client: RunHostClient) -> None:
        """Cancel by asking this run host, from now until `ends`."""
        self._client = client

    def ends(self) -> None:
        """Leave the run host alone from now on: it may serve another run."""
        self._client = None

    async def cancel(self) -> None:
        """Ask the execution to end, without waiting. A second call does nothing."""
        if self.is_cancelled:
            return
        self.is_cancelled = True
        if self._client is not None:
            await self._client.cancel()
        elif self.driver is not None:
            self.driver.cancel()

    async def wait_ended(self) -> None:
        """Wait until the execution's outcome is in the store."""
        if self.driver is not None:
            await asyncio.wait((self.driver,))


class Work:
    """A shard that its body executes, with the calls that the body needs."""

    def __init__(
        self, context: RunContext, claim: Claim, active: ActiveRun, patiently: Patiently
    ) -> None:
        self.context = context
        self.task: Task = claim.task
        self.shard: Shard = claim.shard
        """The shard's row when this execution began; its attempt is 0 until then."""
        self.active = active
        self.policy: Policy = active.policy
        self.record: Record = StoredRecord(claim.shard)
        """Measurements so far; the body replaces this by its own record."""
        self._patiently = patiently

    @property
    def body(self) -> Body:
        return body_of(self.context.bodies, self.task.kind)

    @property
    def has_begun(self) -> bool:
        return self.shard.attempt > 0

    def lease(self, *, has_place: bool = False) -> AbstractAsyncContextManager[RunHostClient]:
        """Lease a run host. A durable task, or a task that `has_place` in the line, waits without
        a limit. Raises TooBusyError, NotReadyError.
        """
        place = self.policy.place if isinstance(self.policy, Once) else None
        patient = has_place or isinstance(self.policy, Durable)
        hosts = self.context.hosts
        return hosts.lease(patient=patient, owner=self.task.client, place=place)

    async def begin(self, total_items: int) -> None:
        """Begin the execution unless the claim has begun it, and store the number of items."""
        shards = self.context.store.shards
        if not self.has_begun:
            begin = shards.begin
            self.shard = await to_the_end(begin, self.shard.ref, self.context.node, total_items)
        elif total_items != self.task.total_items:
            await self.call(shards.count_items, self.shard.ref, self.shard.attempt, total_items)
            self.shard = replace(self.shard, count=total_items)
        self.record = StoredRecord(self.shard)

    async def call(self, call: Callable[..., T], *args: object) -> T:
        """Make a call that blocks on the store, in a thread. For a durable task, repeat it while
        the store cannot be reached, until this process stops.
        """
        if isinstance(self.policy, Once):
            return await in_store_thread(call, *args)
        result: T = await self._patiently(call, *args)
        return result


Patiently = Callable[..., Awaitable[Any]]
"""Function that makes a blocking call in a thread, and repeats it while the store is away."""


def withdraw(context: RunContext, task_id: str) -> None:
    """Delete a task that never ran, without a trace. Blocks.

    Raises StoreError, TaskNotFoundError, and TaskConflictError if it has begun.
    """
    context.store.withdraw(task_id)
    context.folder.remove(task_id)


def drop_files(context: RunContext, task_id: str) -> None:
    """Remove the files of an ended task that cannot be resumed. Blocks."""
    try:
        context.folder.remove(task_id)
    except StoreError as error:
        logger.warning("%s; upkeep removes it later", error)


async def to_the_end(call: Callable[..., T], *args: object) -> T:
    """Run the call in a thread and return its result even if cancelled meanwhile. The next await
    then raises the cancellation, when the caller can clean up.
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
