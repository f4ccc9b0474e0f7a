"""What tasks are executed with, and what the body of each kind of task has to give."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import RunCancelledError, ServiceError, StoreError
from hotloop.app.execution.client_limits import ClientStorage
from hotloop.app.names import TaskKind, TaskStatus
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

    def duration_seconds(self, task: Task, shards: Sequence[Shard]) -> float | None:
        """Seconds that a task took, as far as they are known. Raises UnreadableTaskError,
        TypeError.
        """
        ...

    def view(self, store: TaskStore, task: Task, shards: Sequence[Shard]) -> dict[str, Any]:
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


class TaskInput(Protocol):
    """Items that come in with a request, and are put into a file of the task."""

    size: int
    """Bytes of the file, about; of an upload, those received so far."""
    sha256: str | None
    """Digest of the file, once it was received."""

    async def receive(self, folder: DataFolder, task_id: str) -> None:
        """Raises StoreError, and what the stream of an upload raises."""
        ...


@dataclass(frozen=True, slots=True)
class Once:
    """The policy for a task whose client waits for it: begun once its items are there, never tried
    again, and cancelled with its client.
    """

    source: TaskInput | None = None
    """Items that still come in; none are made up."""
    plan: Callable[[Items], Awaitable[Plan]] | None = None
    """Makes the plan of a run, once its items are known. May refuse the task by raising."""
    place: ExitStack | None = None
    """The place in the line for a run host that the task has already."""


@dataclass(frozen=True, slots=True)
class Durable:
    """The policy for a claim of the queue: it has begun; it is tried again after failures that may
    not come again, and handed over when this process stops.
    """


DURABLE: Final = Durable()

Policy = Once | Durable


class ActiveRun:
    """A shard that this process executes, and the way to cancel it at any moment.

    `driver` is the asyncio task that drives it. Before its run has begun, cancelling ends the
    driver itself; from then on its run host is asked, so that finished batches still come.
    """

    def __init__(self, policy: Policy = DURABLE) -> None:
        self.policy = policy
        self.driver: asyncio.Task[Any] | None = None
        self.is_cancelled = False
        self._client: RunHostClient | None = None

    def begins_on(self, client: RunHostClient) -> None:
        """Ask this run host to cancel, until `ends`."""
        self._client = client

    def ends(self) -> None:
        """The run host serves another run from now on."""
        self._client = None

    async def cancel(self) -> None:
        """Ask it to end; returns at once, and a second call does nothing."""
        if self.is_cancelled:
            return
        self.is_cancelled = True
        if self._client is not None:
            await self._client.cancel()
        elif self.driver is not None:
            self.driver.cancel()

    async def wait_ended(self) -> None:
        """Wait until its outcome is in the store."""
        if self.driver is not None:
            await asyncio.wait((self.driver,))


class Work:
    """One shard in the hands of its body."""

    def __init__(
        self, context: RunContext, claim: Claim, active: ActiveRun, patiently: Patiently
    ) -> None:
        self.context = context
        self.task: Task = claim.task
        self.shard: Shard = claim.shard
        """As it was when this execution began; without an attempt as long as none has."""
        self.active = active
        self.policy: Policy = active.policy
        self.record: Record = StoredRecord(claim.shard)
        """What is measured so far; the body replaces it by its own."""
        self._patiently = patiently

    @property
    def body(self) -> Body:
        return body_of(self.context.bodies, self.task.kind)

    @property
    def has_begun(self) -> bool:
        return self.shard.attempt > 0

    def lease(self, *, has_place: bool = False) -> AbstractAsyncContextManager[RunHostClient]:
        """A run host, for which a durable task, or one that `has_place` in the line already, waits
        as long as it takes. Raises TooBusyError, NotReadyError.
        """
        place = self.policy.place if isinstance(self.policy, Once) else None
        patient = has_place or isinstance(self.policy, Durable)
        hosts = self.context.hosts
        return hosts.lease(patient=patient, owner=self.task.client, place=place)

    async def begin(self, total_items: int) -> None:
        """Begin the execution, unless the claim has begun it; by now it is known how many items
        the task has.
        """
        shards = self.context.store.shards
        if not self.has_begun:
            begin = shards.begin
            self.shard = await to_the_end(begin, self.shard.ref, self.context.node, total_items)
        elif total_items != self.task.total_items:
            await self.call(shards.count_items, self.shard.ref, self.shard.attempt, total_items)
            self.shard = replace(self.shard, count=total_items)
        self.record = StoredRecord(self.shard)

    async def call(self, call: Callable[..., T], *args: object) -> T:
        """Make a call that blocks on the store, in a thread; for a durable task again and again
        while the store cannot be reached and this process goes on.
        """
        if isinstance(self.policy, Once):
            return await in_store_thread(call, *args)
        result: T = await self._patiently(call, *args)
        return result


Patiently = Callable[..., Awaitable[Any]]
"""Makes a blocking call in a thread, again and again while the store cannot be reached."""


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
