"""Names that the API, the store and the strategies share; most are closed lists of words."""

import re
from enum import StrEnum
from typing import Final

from hotloop.kernels.column import Column

ITEM_ID: Final = Column("item_id", "int64", "names the item in results and errors", minimum=0)
"""The column that every item has besides its workload's columns."""

_TASK_ID: Final = re.compile(r"task_(?:[0-9a-f]{8}){1,3}_[0-9]{1,12}", re.ASCII)


class StrategyName(StrEnum):
    """The strategies, in the order in which they are shown."""

    SEQUENTIAL = "sequential"
    THREADING = "threading"
    MULTIPROCESSING = "multiprocessing"
    ASYNC_BATCH = "async-batch"
    CONCURRENT_FUTURES = "concurrent-futures"
    HYBRID = "hybrid"
    RAY = "ray"
    DASK = "dask"


CLUSTERS: Final = frozenset({StrategyName.RAY, StrategyName.DASK})
"""The strategies that compute on a cluster, if the service has one."""

LOCAL_CLUSTER: Final = "local"
"""The address that stands for a cluster on this machine, started when it is needed."""


class InstructionSet(StrEnum):
    """Instruction sets that a kernel may be compiled for, the most capable first."""

    AVX512F = "avx512f"
    AVX2_FMA = "avx2+fma"
    BASELINE = "baseline"


class Durability(StrEnum):
    """The worst event that loses nothing of what the service has answered for."""

    POWER = "power"
    """A power cut: each answer waits until the disk has what it tells."""
    PROCESS = "process"
    """The death of the service's processes; a power cut may lose the last moments."""


class JwtAlgorithm(StrEnum):
    """Algorithms that may sign bearer tokens (RFC 7518, section 3.1)."""

    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"


class LongRuns(StrEnum):
    """The answer to a synchronous run whose estimate is over `sync_limit_seconds`."""

    BACKGROUND = "background"
    """The run is accepted as a background task."""
    REFUSE = "refuse"


class RedisLayout(StrEnum):
    """The kind of value under an item's key in Redis."""

    STRING = "string"
    """A number, for one column."""
    JSON = "json"
    """An object with a field for each column."""
    HASH = "hash"
    """A hash with a field for each column."""


class Scope(StrEnum):
    """The rights of a client; each includes those before it."""

    READ = "read"
    """See its own tasks, and what the service offers."""
    RUN = "run"
    """Ask for runs, cancel, resume and remove its own tasks."""
    ADMIN = "admin"
    """See, cancel, resume and remove the tasks of all clients."""


class TaskStatus(StrEnum):
    """The state of a task."""

    PENDING = "pending"
    """Accepted, not started."""
    RUNNING = "running"
    """Being executed."""
    COMPLETED = "completed"
    """All items were handled; some may have failed."""
    FAILED = "failed"
    """Ended by an error, see `error_message`; finished batches are kept."""
    CANCELLED = "cancelled"
    """Ended on request; finished batches are kept."""

    @property
    def has_ended(self) -> bool:
        """True once nothing executes the task any more, unless a client resumes it."""
        return self not in (TaskStatus.PENDING, TaskStatus.RUNNING)


class TaskKind(StrEnum):
    """The work of a task."""

    RUN = "run"
    """A strategy on a kernel over all items."""
    COMPARISON = "comparison"
    """Strategies × kernels measured side by side; its items are measurements."""


class TaskType(StrEnum):
    """The way in which a task was asked for."""

    SYNCHRONOUS = "synchronous"
    """The client waits for the answer; leaving cancels the run."""
    BACKGROUND = "background"
    """The client asks for the status later."""


def is_task_id(text: str) -> bool:
    """Return True if this may be a task id: `task_`, 24 hex digits (fewer in early versions), `_`,
    seconds since 1970.
    """
    return _TASK_ID.fullmatch(text) is not None
