"""The bases of all models, and parts that many answers share: links, and errors."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class RequestModel(BaseModel):
    """The base of requests: unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class ResponseModel(BaseModel):
    """The base of answers; in the schema every field is always present."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


TaskId = Annotated[str, Field(examples=["task_4f9d02aa71c3e85b_1735689600"])]
"""Id of a task: `task_`, 24 hexadecimal digits (fewer in early versions), `_`, unix seconds."""


class TaskLinks(ResponseModel):
    """Links of a task; paths on this server."""

    status: str = Field(examples=["/api/v1/tasks/status/task_4f9d02aa71c3e85b_1735689600"])
    results: str = Field(examples=["/api/v1/tasks/results/task_4f9d02aa71c3e85b_1735689600"])
    """Every item's result, once the task has ended."""
    cancel: str = Field(examples=["/api/v1/tasks/task_4f9d02aa71c3e85b_1735689600"])
    """Call it with DELETE."""
    resume: str = Field(examples=["/api/v1/tasks/task_4f9d02aa71c3e85b_1735689600/resume"])
    """Call it with POST, once the task has failed or was cancelled."""
    retry_failed: str = Field(
        default="", examples=["/api/v1/tasks/task_4f9d02aa71c3e85b_1735689600/retry-failed"]
    )
    """Call it with POST, once the task has completed and items of it have failed."""
    events: str = Field(examples=["/api/v1/tasks/events/task_4f9d02aa71c3e85b_1735689600"])
    """Progress and changes of state as they happen."""


class FieldProblem(ResponseModel):
    """A fault of a request."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    field: str = Field(examples=["workers"])
    """Dotted way to the field, empty for the request as a whole."""
    message: str = Field(examples=["must be at least 1 (got 0)"])
    line: int | None = None
    """The line of an upload, counted from 1, a header included; the row in Arrow and Parquet."""
    column: str | None = None
    """The column of an upload."""


class ProblemLinks(ResponseModel):
    """Links of the task that a problem is about; paths on this server."""

    status: str
    results: str


class Problem(ResponseModel):
    """A problem: why a request failed, and what to do instead. Empty members are left out."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    type: str = Field(examples=["urn:hotloop:problem:invalid-request"])
    """Names the kind of problem; stable, fit for programs to compare."""
    title: str = Field(examples=["The request is not valid"])
    """The kind in words."""
    status: int = Field(ge=400, le=599, examples=[422])
    """HTTP status."""
    detail: str = Field(examples=["workers: must be at least 1 (got 0)"])
    """This occurrence in words, with the way out."""
    instance: str = Field(examples=["/api/v1/tasks/hybrid"])
    """Path of the request."""
    errors: list[FieldProblem] | None = None
    """Each fault of a request that is not valid, at most 20."""
    task_id: str | None = None
    """The task that failed, or whose state does not allow the request."""
    links: ProblemLinks | None = None
    estimate_seconds: float | None = None
    """Estimated seconds of the refused run."""
    limit_seconds: float | None = None
    """Highest allowed estimate of a synchronous run in seconds."""
    needed_bytes: int | None = None
    """Estimated memory of the refused run."""
    limit_bytes: int | None = None
    """Highest allowed estimate of a run's memory."""
    retry_after_seconds: int | None = None
    """Seconds to wait before another try, as in the header Retry-After."""
    error_id: str | None = None
    """Names the entry in the log of the service."""


UNLINKED: Final = TaskLinks(status="", results="", cancel="", resume="", events="")
"""Empty links of a task, which the answer replaces: only a request knows the prefix of paths."""


class SuggestedRun(NamedTuple):
    """A run that an answer suggests. The answer shows it as a command, which needs the address at
    which the client reached the service.
    """

    strategy: str
    body: dict[str, Any]
    """The body to POST, as JSON."""
