"""Records of tasks and their shards, and the moves between their states."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from hotloop.app.names import TaskKind, TaskStatus
from hotloop.app.records import JsonObject, from_fields

MOVES: Final[Mapping[TaskStatus, frozenset[TaskStatus]]] = MappingProxyType(
    {
        TaskStatus.PENDING: frozenset(
            {TaskStatus.RUNNING, TaskStatus.FAILED, TaskStatus.CANCELLED}
        ),
        TaskStatus.RUNNING: frozenset(
            {TaskStatus.RUNNING, TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED}
        ),
        TaskStatus.COMPLETED: frozenset(),
        TaskStatus.FAILED: frozenset({TaskStatus.PENDING}),
        TaskStatus.CANCELLED: frozenset({TaskStatus.PENDING}),
    }
)
"""The states that a task, or a shard, may move to from each state. It moves from running to running
when another process takes it over, and back to pending when it is resumed. Only `app.tasks.retry`
makes a completed task pending."""

FINISHED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
UNFINISHED: Final = frozenset(MOVES) - FINISHED


PART: Final = "part"
"""The kind of a task that only serves another task: no list shows it, and it ends with its
process."""


def may_become(status: TaskStatus) -> frozenset[TaskStatus]:
    """Return the states from which a task may move to `status`."""
    return frozenset(source for source, targets in MOVES.items() if status in targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as it is stored. Times are UTC."""

    task_id: str
    task_type: str
    """A TaskType: synchronous or background."""
    kind: str = TaskKind.RUN
    """A TaskKind, or PART."""
    status: TaskStatus = TaskStatus.PENDING
    spec: JsonObject
    """The request, as JSON."""
    workload: str
    kernel: str
    strategy: str
    """Empty, like `kernel`, for a comparison, which has several."""
    total_items: int
    items_processed: int = 0
    """Failed items included."""
    failed_items: int = 0
    created_at: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    owner: str
    """The id of the node that received it, see `hotloop.app.tasks.nodes`."""
    measurements: JsonObject | None = None
    """Measurements as JSON; None until a run has ended."""
    error_code: str | None = None
    error_message: str | None = None
    estimated_seconds: float | None = None
    """Estimated seconds, as of its acceptance."""
    client: str | None = None
    """The client that it belongs to, see `hotloop.app.security.clients`."""
    idempotency_key: str | None = None
    request_hash: str | None = None
    """Hash of the request that came with the key: the key is refused for another request."""
    input_sha256: str | None = None
    """SHA-256 of the file that the items come from, as it was accepted; None without a file."""
    stored_bytes: int = 0
    """Bytes of its input and its results, including results that are still to come."""
    item_bytes: int = 0
    """Stored bytes of one item's results."""

    @property
    def rank(self) -> int:
        """The place of its shards in the queue, before the time of its acceptance."""
        priority = self.spec.get("priority")
        return -priority if isinstance(priority, int) else 0

    @property
    def webhook(self) -> str | None:
        """The URL to which its end is told."""
        url = self.spec.get("webhook")
        return url if isinstance(url, str) else None


@dataclass(frozen=True, slots=True, order=True)
class ShardRef:
    """The name of the work on one shard of a task. `shard` counts from 0. Every resume raises
    `generation`, so that writes of an earlier generation are refused.
    """

    task_id: str
    shard: int
    generation: int

    def __str__(self) -> str:
        return f"{self.task_id}:s{self.shard}:g{self.generation}"


@dataclass(frozen=True, slots=True)
class InWork:
    """Progress of an execution, including items in work; `in_work` in the details of a shard."""

    attempt: int
    """The number of the execution: items that an earlier one had in work are lost."""
    items_passed: int
    """Items of the shard; an item in work counts as the share of its steps that it has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A contiguous range of a task's items that one node executes at a time."""

    task_id: str
    shard: int
    start: int
    """Position of its first item."""
    count: int
    """Number of items; 0 until an upload has been read."""
    status: TaskStatus = TaskStatus.PENDING
    generation: int = 0
    attempt: int = 0
    """Number of executions begun so far, and of the last one: only that one may write."""
    node: str | None = None
    """The node that executes the shard, or did last; None while it waits."""
    items_processed: int = 0
    failed_items: int = 0
    details: JsonObject | None = None
    """Measurements and counts of all executions so far, as JSON; the next one adds to them."""
    error_code: str | None = None
    error_message: str | None = None
    beginnings: int = 0
    """Executions begun since it last made progress."""
    needs: str | None = None
    """Abilities that a node must have, see `app.tasks.needs`; None while they are not known."""
    needs_bytes: int | None = None
    """Bytes of memory that a run of it needs; None while that is not known."""
    rank: int = 0
    """Its place in the queue before the time of its acceptance; lower is earlier."""
    small: str | None = None
    """Equal for tasks that one kernel call may compute, see `app.tasks.small`; None for others."""

    @property
    def ref(self) -> ShardRef:
        return ShardRef(self.task_id, self.shard, self.generation)

    @property
    def items_in_work(self) -> int:
        """Progress of items in work, in items, beside the ones that are processed."""
        return items_in_work(self, (self.details or {}).get("in_work"))


def items_in_work(shard: Any, stored: Any) -> int:
    """Compute `Shard.items_in_work`, also for a row of a shard. `stored` is an InWork as JSON;
    one that cannot be read counts as 0.
    """
    try:
        in_work = from_fields(InWork, stored)
    except TypeError:
        return 0
    if shard.status is not TaskStatus.RUNNING or in_work.attempt != shard.attempt:
        return 0
    passed: int = min(in_work.items_passed, shard.count)
    return max(0, passed - int(shard.items_processed))


def run_seconds(task: Task, shards: Sequence[Shard]) -> float | None:
    """Return the seconds that a run took: for one shard, as its executions measured them; for
    several shards, which run side by side, from the start to the end, or until now.
    """
    if len(shards) == 1:
        seconds = (shards[0].details or {}).get("duration_seconds")
        return seconds if isinstance(seconds, int | float) else None
    if task.start_time is None:
        return None
    return ((task.end_time or utc_now()) - task.start_time).total_seconds()


def new_task_id() -> str:
    """Make a task's id: `task_`, 8 hexadecimal digits of the time, 16 random ones, `_`, and the
    time once more, in unix seconds.

    Ids begin with the time so that new rows stand together in the database's indexes: writing many
    of them at random places takes several times as long.
    """
    now = int(time.time())
    return f"task_{now & 0xFFFFFFFF:08x}{secrets.token_hex(8)}_{now}"


def utc_now() -> datetime:
    return datetime.now(UTC)
