"""Errors of the service. None of them knows HTTP; `app.http.error_handlers` maps each to a status.

ServiceError
├── InvalidRequestError          a field that only the service can judge (unknown kernel, bad row)
│   ├── BadRowError              a row of an upload, by line and column
│   ├── EstimateTooLongError     a synchronous run that would take too long
│   ├── MemoryBudgetError        a run that would need more memory than it may
│   └── IdempotencyConflictError an idempotency key that belongs to another request
├── PayloadTooLargeError         a body or an upload over its bound
├── BodyTooSlowError             a body that does not arrive
├── UnauthorizedError            who asks did not say who that is
├── ForbiddenError               who asks may not
│   └── MissingScopeError        for want of a scope
├── TaskNotFoundError
├── TaskConflictError            the task's state does not allow this (results of a running task, …)
│   └── TooManyBeginningsError   a task whose executions begin again and again without progress
├── TooBusyError                 no place for another run now
│   └── KeyInUseError            the first request with an idempotency key is still coming in
├── RateLimitedError             a client asks too often
├── ClientLimitError             a client has as much work waiting as it may have
├── ClientStorageError           a client stores as many bytes as it may
├── NotReadyError                no run host is warm yet
├── StoreError                   the task store or the data folder cannot be used
│   ├── DamagedFileError         a file of the data folder is not as it was written
│   └── StoreUnavailableError    the store cannot be reached now
└── RunError                     a run that started and did not complete
    ├── RunTimeoutError
    ├── RunCancelledError
    ├── ErrorRateExceededError
    ├── WorkerCrashedError       a worker of a pool died more often than the run may retry
    ├── RunHostDiedError         the process that executes runs died
    ├── UnreadableTaskError      a stored task that this version of the service cannot read
    ├── OutputsDifferError       cells of a comparison that must agree did not
    └── NothingMeasuredError     no cell of a comparison could be measured

All are picklable: those raised in a run host or a worker travel to the API process.
"""

from __future__ import annotations

import signal


class ServiceError(Exception):
    """Base of all errors of the service; `str(error)` is safe to show to a client.

    Subclasses pass every constructor argument to `super().__init__`, so that they survive
    pickling, and override `__str__` where the text is put together from them.
    """

    @property
    def message(self) -> str:
        return str(self)


class InvalidRequestError(ServiceError):
    """A request that is well-formed and cannot be met; `field` is the way to it, dotted."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(field, text)
        self.field = field
        self.text = text

    def __str__(self) -> str:
        return f"{self.field}: {self.text}"


class BadRowError(InvalidRequestError):
    """A row of an upload that cannot be used. `line` counts from 1, a header line included."""

    def __init__(self, line: int, column: str | None, text: str) -> None:
        Exception.__init__(self, line, column, text)
        self.line = line
        self.column = column
        self.text = text
        self.field = f"line {line}" if column is None else f"line {line}, column {column}"


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
    """A run that is estimated to need more memory than one may (both in bytes)."""

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
    """An idempotency key that came with another request before; `task_id` is that one's task."""

    def __init__(self, task_id: str) -> None:
        Exception.__init__(self, task_id)
        self.task_id = task_id
        self.field = "Idempotency-Key"
        self.text = (
            f"belongs to another request, that of task {task_id}; take a new key for this request, "
            "or repeat that one unchanged"
        )


class PayloadTooLargeError(ServiceError):
    """A body over its bound of `limit_bytes`; `setting` is the setting that raises it, if any."""

    def __init__(self, limit_bytes: int, setting: str | None) -> None:
        super().__init__(limit_bytes, setting)
        self.limit_bytes = limit_bytes
        self.setting = setting

    def __str__(self) -> str:
        if self.setting is None:
            return f"the body exceeds {self.limit_bytes:,} bytes. Send less."
        return (
            f"the body exceeds {self.limit_bytes:,} bytes. Send less, in several requests, "
            f"or have the operator raise {self.setting}."
        )


class BodyTooSlowError(ServiceError):
    """A body of which so little came in `limit_seconds` that nobody waits for the rest."""

    def __init__(self, limit_seconds: float) -> None:
        super().__init__(limit_seconds)
        self.limit_seconds = limit_seconds

    def __str__(self) -> str:
        return (
            f"the body did not arrive within {self.limit_seconds:g} s. Send it again, faster, or "
            "have the operator raise HOTLOOP_BODY_SECONDS."
        )


class UnauthorizedError(ServiceError):
    """A client that must say who it is and did not, or not in a way that is believed."""


class ForbiddenError(ServiceError):
    """A request that is refused because of where it comes from, or who sends it."""


class MissingScopeError(ForbiddenError):
    """A client that is known and lacks the scope."""

    def __init__(self, client: str, scope: str) -> None:
        super().__init__(client, scope)
        self.client = client
        self.scope = scope

    def __str__(self) -> str:
        return f"{self.client} lacks the scope `{self.scope}`; use a key that has it"


class TaskNotFoundError(ServiceError):
    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id

    def __str__(self) -> str:
        return f"there is no task {self.task_id!r}. GET /api/v1/tasks/results lists those kept."


class TaskConflictError(ServiceError):
    """The state of the task does not allow what was asked; `text` says what to do instead."""

    def __init__(self, task_id: str, text: str) -> None:
        super().__init__(task_id, text)
        self.task_id = task_id
        self.text = text

    def __str__(self) -> str:
        return f"task {self.task_id}: {self.text}"


class TooManyBeginningsError(TaskConflictError):
    """A task that is ended because executions of a shard began too often without any progress;
    `attempts` are all that ever began.
    """

    def __init__(self, task_id: str, shard: int, attempts: int) -> None:
        Exception.__init__(self, task_id, shard, attempts)
        self.task_id = task_id
        self.shard = shard
        self.attempts = attempts
        self.text = (
            f"the execution of its shard {shard} began again and again without storing a result, "
            f"the last time as attempt {attempts}, and its process ended or lost it each time. "
            "Look into the logs for what ended the process, then resume the task to try it again"
        )


class TooBusyError(ServiceError):
    """No place for another run; try again after `retry_after_seconds`."""

    def __init__(self, text: str, retry_after_seconds: int) -> None:
        super().__init__(text, retry_after_seconds)
        self.text = text
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.text


class KeyInUseError(TooBusyError):
    """An idempotency key whose first request is not complete yet, that of task `task_id`."""

    def __init__(self, task_id: str) -> None:
        Exception.__init__(self, task_id)
        self.task_id = task_id
        self.retry_after_seconds = 2
        self.text = (
            f"the first request with this Idempotency-Key, that of task {task_id}, is still coming "
            "in or was withdrawn; send yours again"
        )


class RateLimitedError(TooBusyError):
    """A client that asks more often than it may."""


class ClientLimitError(TooBusyError):
    """A client that has as much work waiting as it may have."""


class ClientStorageError(ServiceError):
    """A task that would exceed the bytes that its client may store."""

    def __init__(self, stored_bytes: int, asked_bytes: int, limit_bytes: int) -> None:
        super().__init__(stored_bytes, asked_bytes, limit_bytes)
        self.stored_bytes = stored_bytes
        self.asked_bytes = asked_bytes
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        more = f", and this one needs {self.asked_bytes:,}" if self.asked_bytes else ""
        return (
            f"inputs and results of your tasks take {self.stored_bytes:,} bytes{more}; "
            f"{self.limit_bytes:,} may be stored. Delete finished tasks (DELETE "
            "/api/v1/tasks/results, or one by one), or have the operator raise "
            "HOTLOOP_CLIENT_STORED_BYTES."
        )


class NotReadyError(TooBusyError):
    """The service is starting or restarting its run hosts."""


class StoreError(ServiceError):
    """The task store or the data folder cannot be used (disk full, file locked, …)."""


class DamagedFileError(StoreError):
    """A file in the data folder is not as it was written."""


class StoreUnavailableError(StoreError):
    """The store cannot be reached now; try again after `retry_after_seconds`."""

    def __init__(self, text: str, retry_after_seconds: int = 5) -> None:
        super().__init__(text, retry_after_seconds)
        self.text = text
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        return self.text


class RunError(ServiceError):
    """A run that started and did not complete. `task_id` is set by the service that knows it."""

    task_id: str | None = None


class RunTimeoutError(RunError):
    def __init__(self, timeout_seconds: float) -> None:
        super().__init__(timeout_seconds)
        self.timeout_seconds = timeout_seconds

    def __str__(self) -> str:
        return (
            f"the run did not finish within timeout_seconds = {self.timeout_seconds:g}. What was "
            "finished is kept; raise the bound or ask for fewer items."
        )


class RunCancelledError(RunError):
    def __str__(self) -> str:
        return "the run was cancelled. What was finished is kept."


class ErrorRateExceededError(RunError):
    def __init__(self, failed_items: int, total_items: int, max_error_rate: float) -> None:
        super().__init__(failed_items, total_items, max_error_rate)
        self.failed_items = failed_items
        self.total_items = total_items
        self.max_error_rate = max_error_rate

    def __str__(self) -> str:
        return (
            f"{self.failed_items:,} of {self.total_items:,} items failed, more than "
            f"max_error_rate = {self.max_error_rate:g} allows."
        )


class WorkerCrashedError(RunError):
    """Pool workers died `attempts` times: with the batch in work, or (None) at their start."""

    def __init__(self, batch_index: int | None, attempts: int, cause: str) -> None:
        super().__init__(batch_index, attempts, cause)
        self.batch_index = batch_index
        self.attempts = attempts
        self.cause = cause

    def __str__(self) -> str:
        when = "at its start" if self.batch_index is None else f"during batch {self.batch_index}"
        return (
            f"a worker process died {when} ({self.cause}), {self.attempts} times; the run was "
            "given up. Memory is the usual reason: lower workers or batch_size."
        )


class RunHostDiedError(RunError):
    """The run host ended in the middle of a run; `exit_code` is negative for a signal."""

    def __init__(self, exit_code: int | None, detail: str = "") -> None:
        super().__init__(exit_code, detail)
        self.exit_code = exit_code
        self.detail = detail

    def __str__(self) -> str:
        how = describe_exit(self.exit_code)
        more = f" ({self.detail})" if self.detail else ""
        return (
            f"the run host died in the middle of the run: {how}{more}. A new one is started; "
            "what was finished is kept."
        )


class OutputsDifferError(RunError):
    """Outputs of a comparison that must be equal are not: `cells` are their names, in words."""

    def __init__(self, cells: str, detail: str) -> None:
        super().__init__(cells, detail)
        self.cells = cells
        self.detail = detail

    def __str__(self) -> str:
        return (
            f"outputs that must be equal are not, and their times say nothing: {self.cells}: "
            f"{self.detail}. Do not use these kernels before that is understood."
        )


class UnreadableTaskError(RunError):
    """A stored task that this version of the service cannot read; `reason` says what of it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"this version of the service cannot read the stored task: {self.reason}. Ask for it "
            "anew, or resume it with the version that accepted it."
        )


class NothingMeasuredError(RunError):
    """No cell of a comparison could be measured; `reasons` are those of its cells, in words."""

    def __init__(self, reasons: str) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        return f"nothing could be measured: {self.reasons}"


def describe_exit(exit_code: int | None) -> str:
    """An exit code in words: `signal SIGKILL`, `exit code 3`, `gone`."""
    if exit_code is None:
        return "gone"
    if exit_code < 0:
        try:
            return f"signal {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit code {exit_code}"


def internal_text(error: BaseException) -> str:
    """What a client may read of an unexpected error: its kind, never its text or stack."""
    return f"an unexpected {type(error).__name__}; the log of the service has the details"
