"""Errors of the service, without HTTP: `app.http.error_handlers` maps each to a status.

ServiceError
├── InvalidRequestError          a field that only the service can judge (unknown kernel, bad row)
│   ├── BadRowError              a row of an upload, by line and column
│   ├── EstimateTooLongError     a synchronous run that would take too long
│   ├── MemoryBudgetError        a run that would need more memory than it may
│   └── IdempotencyConflictError an idempotency key that belongs to another request
├── PayloadTooLargeError         a body or an upload over its bound
├── BodyTooSlowError             a body that does not arrive
├── UnauthorizedError            a client that shows no valid credentials
├── ForbiddenError               a client or page that may not do this
│   └── MissingScopeError        a client without the scope
├── TaskNotFoundError
├── TaskConflictError            the task's state does not allow this (results of a running task, …)
│   └── TooManyBeginningsError   a task whose executions begin again and again without progress
├── TooBusyError                 no place for another run now
│   ├── KeyInUseError            the first request with an idempotency key is still coming in
│   ├── RateLimitedError         a client that asks too often
│   ├── ClientLimitError         a client that has as much work waiting as it may
│   └── NotReadyError            the run hosts are starting
├── CallTimeoutError             a call whose kernel did not return
├── ItemFailedError              an item for which a user's function raised
├── ClientStorageError           a client that stores as many bytes as it may
├── StoreError                   the task store or the data folder cannot be used
│   ├── DamagedFileError         a file in the data folder has changed since it was written
│   └── StoreUnavailableError    the store cannot be reached now
└── RunError                     a run that started and did not complete
    ├── RunTimeoutError
    ├── RunCancelledError
    ├── ErrorRateExceededError
    ├── WorkloadUnusableError    a user's code that cannot be imported or compiled, or has changed
    ├── OutOfMemoryError         a user's code that asked for more memory than a run may take
    ├── WorkerCrashedError       a worker of a pool died more often than the run may retry
    ├── RunHostDiedError         the process that executes runs died
    ├── ClusterLostError         a cluster that cannot be reached, or does not answer any more
    ├── ClusterUnusableError     a cluster whose workers cannot execute the run
    ├── UnreadableTaskError      a stored task that this version of the service cannot read
    ├── OutputsDifferError       cells of a comparison that must agree did not
    └── NothingMeasuredError     no cell of a comparison could be measured

All are picklable: errors raised in a run host or a worker travel to the API process.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import ClassVar


class ServiceError(Exception):
    """Base of all errors of the service; `str(error)` is safe to show to a client.

    An error with fields is a dataclass. Its text is `form`, formatted with the error as `e`; an
    error with a more complex text overrides `__str__`.
    """

    form: ClassVar[str] = ""

    def __post_init__(self) -> None:
        self.args = tuple(vars(self).values())  # for pickling, which calls the class with them

    def __str__(self) -> str:
        return self.form.format(e=self) if self.form else super().__str__()


@dataclass(eq=False, repr=False)
class InvalidRequestError(ServiceError):
    """A well-formed request that cannot be met; `field` is the dotted path of the faulty field."""

    field: str
    text: str
    form = "{e.field}: {e.text}"


class BadRowError(InvalidRequestError):
    """A row of an upload that cannot be used. `line` counts from 1, a header line included, and is
    None for a fault of the upload as a whole. Where there are no lines, `unit` is "row".
    """

    def __init__(self, line: int | None, column: str | None, text: str, unit: str = "line") -> None:
        Exception.__init__(self, line, column, text, unit)
        self.line = line
        self.column = column
        self.text = text
        place = [] if line is None else [f"{unit} {line}"]
        self.field = ", ".join(place if column is None else [*place, f"column {column}"]) or "file"


class EstimateTooLongError(InvalidRequestError):
    """A synchronous run whose estimate exceeds the limit (both in seconds)."""

    def __init__(self, estimate_seconds: float, limit_seconds: float, way_out: str) -> None:
        Exception.__init__(self, estimate_seconds, limit_seconds, way_out)
        self.field = "items_count"
        self.estimate_seconds = estimate_seconds
        self.limit_seconds = limit_seconds
        self.text = (
            f"the run is estimated at {estimate_seconds:,.1f} s, over the limit of "
            f"{limit_seconds:,.0f} s for a synchronous one. {way_out}"
        )


class MemoryBudgetError(InvalidRequestError):
    """A run that is estimated to need more memory than a run may have (both in bytes)."""

    def __init__(self, field: str, needed_bytes: int, limit_bytes: int) -> None:
        Exception.__init__(self, field, needed_bytes, limit_bytes)
        self.field = field
        self.needed_bytes = needed_bytes
        self.limit_bytes = limit_bytes
        self.text = (
            f"the run is estimated to need {needed_bytes >> 20:,} MiB of memory, over the "
            f"{limit_bytes >> 20:,} MiB that a run may have here. Lower workers, batch_size or "
            "io_concurrency, or have the operator raise HOTLOOP_MEMORY_BUDGET_BYTES or lower "
            "HOTLOOP_RUN_HOSTS, which share it."
        )


class IdempotencyConflictError(InvalidRequestError):
    """An idempotency key that came with another request before, which made the task `task_id`."""

    def __init__(self, task_id: str) -> None:
        Exception.__init__(self, task_id)
        self.task_id = task_id
        self.field = "Idempotency-Key"
        self.text = (
            f"belongs to another request, that of task {task_id}; use a new key for this request, "
            "or repeat the other request unchanged"
        )


@dataclass(eq=False, repr=False)
class PayloadTooLargeError(ServiceError):
    """A body over its bound of `limit_bytes`; `setting` is the setting that raises it, if any."""

    limit_bytes: int
    setting: str | None

    def __str__(self) -> str:
        way = self.setting and f", in several requests, or have the operator raise {self.setting}"
        return f"the body exceeds {self.limit_bytes:,} bytes. Send less{way or ''}."


@dataclass(eq=False, repr=False)
class BodyTooSlowError(ServiceError):
    """A body that did not arrive within `limit_seconds`."""

    limit_seconds: float
    form = (
        "the body did not arrive within {e.limit_seconds:g} s. Send it again, faster, or have the "
        "operator raise HOTLOOP_BODY_SECONDS."
    )


class UnauthorizedError(ServiceError):
    """A client that must show credentials, but shows none or invalid ones."""


class ForbiddenError(ServiceError):
    """A request that is refused because of its origin or its client."""


@dataclass(eq=False, repr=False)
class MissingScopeError(ForbiddenError):
    """A known client without the scope."""

    client: str
    scope: str
    form = "{e.client} lacks the scope `{e.scope}`; use a key that has it"


@dataclass(eq=False, repr=False)
class TaskNotFoundError(ServiceError):
    """A task that does not exist, or that the client may not see."""

    task_id: str
    form = "no task {e.task_id!r}; list the tasks that are kept with GET /api/v1/tasks/results"


@dataclass(eq=False, repr=False)
class TaskConflictError(ServiceError):
    """A task whose state does not allow the request; `text` says what to do instead."""

    task_id: str
    text: str
    form = "task {e.task_id}: {e.text}"


class TooManyBeginningsError(TaskConflictError):
    """A task that ended because a shard began too often without progress, `attempts` times."""

    def __init__(self, task_id: str, shard: int, attempts: int) -> None:
        Exception.__init__(self, task_id, shard, attempts)
        self.task_id = task_id
        self.shard = shard
        self.attempts = attempts
        self.text = (
            f"the execution of its shard {shard} began again and again without storing a result, "
            f"the last time as attempt {attempts}, and its process ended or lost it each time. "
            "Find the reason in the logs, then resume the task to try it again"
        )


@dataclass(eq=False, repr=False)
class TooBusyError(ServiceError):
    """No place for another run; the client may try again after `retry_after_seconds`."""

    text: str
    retry_after_seconds: int
    form = "{e.text}"


class KeyInUseError(TooBusyError):
    """An idempotency key whose first request, that of task `task_id`, is not complete yet."""

    def __init__(self, task_id: str) -> None:
        Exception.__init__(self, task_id)
        self.task_id = task_id
        self.retry_after_seconds = 2
        self.text = (
            f"the first request with this Idempotency-Key, that of task {task_id}, is still coming "
            "in or was withdrawn; send yours again"
        )


class RateLimitedError(TooBusyError):
    """A client that sends more requests than its rate limit allows."""


class ClientLimitError(TooBusyError):
    """A client whose waiting work is at its limit."""


class NotReadyError(TooBusyError):
    """The service is starting or restarting its run hosts."""


@dataclass(eq=False, repr=False)
class ClientStorageError(ServiceError):
    """A task that would exceed the bytes that its client may store."""

    stored_bytes: int
    asked_bytes: int
    limit_bytes: int

    def __str__(self) -> str:
        more = f", and this one needs {self.asked_bytes:,}" if self.asked_bytes else ""
        return (
            f"inputs and results of your tasks take {self.stored_bytes:,} bytes{more}; "
            f"at most {self.limit_bytes:,} may be stored. Delete finished tasks (DELETE "
            "/api/v1/tasks/results, or one by one), or have the operator raise "
            "HOTLOOP_CLIENT_STORED_BYTES."
        )


class StoreError(ServiceError):
    """The task store or the data folder cannot be used (disk full, file locked, …)."""


class DamagedFileError(StoreError):
    """A file in the data folder has changed since it was written."""


@dataclass(eq=False, repr=False)
class StoreUnavailableError(StoreError):
    """The store cannot be reached now; the client may try again after `retry_after_seconds`."""

    text: str
    retry_after_seconds: int = 5
    form = "{e.text}"


class RunError(ServiceError):
    """A run that started and did not complete. The service that knows the task sets `task_id`."""

    task_id: str | None = None


@dataclass(eq=False, repr=False)
class RunTimeoutError(RunError):
    """A run that took longer than `timeout_seconds`."""

    timeout_seconds: float
    form = (
        "the run did not finish within timeout_seconds = {e.timeout_seconds:g}. Finished items are "
        "kept; raise the limit or ask for fewer items."
    )


@dataclass(eq=False, repr=False)
class CallTimeoutError(ServiceError):
    """A call whose kernel did not return within `limit_seconds`."""

    limit_seconds: float
    form = (
        "the kernel did not return within {e.limit_seconds:g} s, and its process was ended; ask "
        "for fewer items or other parameters, or start a run, which may take as long as it needs"
    )


@dataclass(eq=False, repr=False)
class ItemFailedError(ServiceError):
    """The only item of a call, which failed."""

    reason: str
    form = "{e.reason}"


class RunCancelledError(RunError):
    """A run that was cancelled."""

    form = "the run was cancelled. Finished items are kept."


@dataclass(eq=False, repr=False)
class ErrorRateExceededError(RunError):
    """A run with a larger share of failed items than `max_error_rate`."""

    failed_items: int
    total_items: int
    max_error_rate: float
    form = (
        "{e.failed_items:,} of {e.total_items:,} items failed, more than max_error_rate = "
        "{e.max_error_rate:g} allows."
    )


@dataclass(eq=False, repr=False)
class WorkloadUnusableError(RunError):
    """A user's workload that cannot be run now; `reason` says why, and what to do."""

    workload: str
    reason: str
    form = "the workload {e.workload} cannot be run: {e.reason}"


@dataclass(eq=False, repr=False)
class OutOfMemoryError(RunError):
    """A user's workload that asked a process for more than its `limit_bytes`, if they are known."""

    workload: str
    limit_bytes: int | None

    def __str__(self) -> str:
        most = "" if self.limit_bytes is None else f" ({self.limit_bytes >> 20:,} MiB)"
        return (
            f"the workload {self.workload} needs more memory than a process of this run may take"
            f"{most}. Lower workers or batch_size, or have the operator raise "
            "HOTLOOP_MEMORY_BUDGET_BYTES."
        )


@dataclass(eq=False, repr=False)
class WorkerCrashedError(RunError):
    """Pool workers died `attempts` times: with a batch in work, or (None) at their start."""

    batch_index: int | None
    attempts: int
    cause: str

    def __str__(self) -> str:
        when = "at its start" if self.batch_index is None else f"during batch {self.batch_index}"
        # The system kills where memory is out; other ends come from the code that the worker ran.
        advice = "The log of the service may say where and why."
        if self.cause in ("gone", describe_exit(-signal.SIGKILL)):
            advice = "Memory is the usual reason: lower workers or batch_size."
        return (
            f"a worker process died {when} ({self.cause}), {self.attempts} times; the run was "
            f"given up. {advice}"
        )


@dataclass(eq=False, repr=False)
class ClusterLostError(RunError):
    """The cluster of a strategy, `engine`, is gone or silent; `text` says what was seen."""

    engine: str
    text: str
    form = (
        "the {e.engine} cluster is lost: {e.text}. Ask again once it is up (GET /health/ready "
        "shows it), or choose another strategy"
    )


class ClusterUnusableError(RunError):
    """Workers of a cluster that cannot execute the run: they lack code, or have other code."""


@dataclass(eq=False, repr=False)
class RunHostDiedError(RunError):
    """The run host died during a run; `exit_code` is negative for a signal."""

    exit_code: int | None
    detail: str = ""

    def __str__(self) -> str:
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"the run host died in the middle of the run: {describe_exit(self.exit_code)}{more}. A "
            "new one is started; finished items are kept."
        )


@dataclass(eq=False, repr=False)
class OutputsDifferError(RunError):
    """Outputs of a comparison that must be equal are not. `cells` names the cells, in words."""

    cells: str
    detail: str
    form = (
        "outputs that must be equal are not, and their times say nothing: {e.cells}: {e.detail}. "
        "Do not use these kernels until the reason is found."
    )


@dataclass(eq=False, repr=False)
class UnreadableTaskError(RunError):
    """A stored task that this version of the service cannot read; `reason` says which part."""

    reason: str
    form = (
        "this version of the service cannot read the stored task: {e.reason}. Send the request "
        "again, or resume the task with the version that accepted it."
    )


@dataclass(eq=False, repr=False)
class NothingMeasuredError(RunError):
    """No cell of a comparison could be measured; `reasons` has the reason of each, in words."""

    reasons: str
    form = "nothing could be measured: {e.reasons}"


def describe_exit(exit_code: int | None) -> str:
    """Return an exit code in words: `signal SIGKILL`, `exit code 3`, `gone`."""
    if exit_code is None:
        return "gone"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    names = {known.value: known.name for known in signal.Signals}
    return f"signal {names.get(-exit_code, -exit_code)}"


def internal_text(error: BaseException) -> str:
    """Return the text of an unexpected error for clients: its type, never its text or stack."""
    return f"an unexpected {type(error).__name__}; the log of the service has the details"
