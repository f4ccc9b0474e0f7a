"""A task, and the moves between its states."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from hotloop.app.names import TaskKind, TaskStatus
from hotloop.app.records import JsonObject, from_fields

_TASK_ID: Final = re.compile(r"task_[0-9a-f]{8}_[0-9]{1,12}")


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
"""Where a task, and each of its shards, may go from each state: from running to running when
another process takes it over, and back to pending when it is resumed."""

FINISHED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED})
UNFINISHED: Final = frozenset(MOVES) - FINISHED


PART: Final = "part"
"""The kind of a task that only serves another one, is in no list, and goes with its process."""


def may_become(status: TaskStatus) -> frozenset[TaskStatus]:
    """The states from which a task may move to `status`."""
    return frozenset(source for source, targets in MOVES.items() if status in targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task as the store has it. Times are UTC."""

    task_id: str
    task_type: str
    """How it was asked for."""
    kind: str = TaskKind.RUN
    """A TaskKind, or PART."""
    status: TaskStatus = TaskStatus.PENDING
    spec: JsonObject
    """What was asked, as JSON."""
    workload: str
    kernel: str
    strategy: str
    """Like `kernel`, empty for a comparison, which has several."""
    total_items: int
    items_processed: int = 0
    """Failed items included."""
    failed_items: int = 0
    created_at: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None
    owner: str
    """The process that runs it, see `hotloop.app.tasks.owner`."""
    measurements: JsonObject | None = None
    """What was measured, as JSON; there once a run has ended."""
    error_code: str | None = None
    error_message: str | None = None
    estimated_seconds: float | None = None
    """What it was estimated at when it was accepted."""
    client: str | None = None
    """Whose it is, see `hotloop.app.security.clients`."""
    idempotency_key: str | None = None
    request_hash: str | None = None
    """Of what the client asked under the key: the same key for something else is refused."""
    input_sha256: str | None = None
    """Digest of the file that the items come from, as it was accepted; None without a file."""
    stored_bytes: int = 0
    """Bytes of its input and its results, those included that are still to come."""
    item_bytes: int = 0
    """Bytes that the results of one item take."""


@dataclass(frozen=True, slots=True, order=True)
class ShardRef:
    """Work on one shard of a task; `shard` counts from 0. `generation` is raised by every resume,
    so that what belongs to an earlier one is void.
    """

    task_id: str
    shard: int
    generation: int

    def __str__(self) -> str:
        return f"{self.task_id}:s{self.shard}:g{self.generation}"


@dataclass(frozen=True, slots=True)
class InWork:
    """The progress of an execution, items in work included; `in_work` in the details of a shard."""

    attempt: int
    """The execution: what an earlier one had in work is lost."""
    items_passed: int
    """Items of the shard, each as much as it has passed of its stages and its kernel call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A contiguous range of a task's items that one node executes at a time."""

    task_id: str
    shard: int
    start: int
    """Position of its first item."""
    count: int
    """Items; 0 while an upload was not read yet."""
    status: TaskStatus = TaskStatus.PENDING
    generation: int = 0
    attempt: int = 0
    """Executions begun so far: the number of the last one, which alone may write."""
    node: str | None = None
    """Who executes it, or did last; none while it waits to be executed."""
    items_processed: int = 0
    failed_items: int = 0
    details: JsonObject | None = None
    """What executions measured and counted so far, as JSON: the last one goes on from there."""
    error_code: str | None = None
    error_message: str | None = None
    beginnings: int = 0
    """Executions begun since it last made progress."""
    needs: str | None = None
    """Abilities that a node must have, see `app.tasks.needs`; None while they are not known."""
    needs_bytes: int | None = None
    """Memory that a run of it needs, as far as it is known."""

    @property
    def ref(self) -> ShardRef:
        return ShardRef(self.task_id, self.shard, self.generation)

    @property
    def items_in_work(self) -> int:
        """Items that those in work are worth by now, beside the ones that are processed."""
        return items_in_work(self, (self.details or {}).get("in_work"))


def items_in_work(shard: Any, stored: Any) -> int:
    """`Shard.items_in_work`, for a row of a shard as well; `stored` is an InWork as JSON. One that
    cannot be read is worth nothing.
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
    """Seconds that a run took: as its executions measured them, if it is one shard; for several
    shards, which are executed side by side, the time from the start to the end, or until now.
    """
    if len(shards) == 1:
        seconds = (shards[0].details or {}).get("duration_seconds")
        return seconds if isinstance(seconds, int | float) else None
    if task.start_time is None:
        return None
    return ((task.end_time or utc_now()) - task.start_time).total_seconds()


def new_task_id() -> str:
    """`task_<8 hex>_<unix seconds>`."""
    return f"task_{secrets.token_hex(4)}_{int(time.time())}"


def is_task_id(text: str) -> bool:
    """Whether `text` could be a task's id: fit for a file's name, too."""
    return _TASK_ID.fullmatch(text) is not None


def utc_now() -> datetime:
    return datetime.now(UTC)
