"""The bases of all models, and parts that many answers share: links, and errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RequestModel(BaseModel):
    """What a client sends: unknown fields and numbers that are not finite are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class ResponseModel(BaseModel):
    """What the service answers; in its schema every field is always there."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        json_schema_serialization_defaults_required=True,
    )


TaskId = Annotated[str, Field(examples=["task_4f9d02aa_1735689600"])]
"""`task_`, 8 hexadecimal digits, `_`, seconds since 1970."""


class TaskLinks(ResponseModel):
    """Where to go from here; paths on this server."""

    status: str = Field(examples=["/api/v1/tasks/status/task_4f9d02aa_1735689600"])
    results: str = Field(examples=["/api/v1/tasks/results/task_4f9d02aa_1735689600"])
    """Every item's result, once the task has ended."""
    cancel: str = Field(examples=["/api/v1/tasks/task_4f9d02aa_1735689600"])
    """To be called with DELETE."""
    resume: str = Field(examples=["/api/v1/tasks/task_4f9d02aa_1735689600/resume"])
    """To be called with POST, once the task has failed or was cancelled."""
    events: str = Field(examples=["/api/v1/tasks/events/task_4f9d02aa_1735689600"])
    """Progress and changes of state as they happen."""


class FieldProblem(ResponseModel):
    """One fault of a request."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)

    field: str = Field(examples=["workers"])
    """Dotted way to the field, empty for the request as a whole."""
    message: str = Field(examples=["must be at least 1 (got 0)"])
    line: int | None = None
    """Of an upload: the line, counted from 1, a header included."""
    column: str | None = None
    """Of an upload: the column."""


class ProblemLinks(ResponseModel):
    """Where the task can be seen; paths on this server."""

    status: str
    results: str


class Problem(ResponseModel):
    """Why a request was not met, and what to do instead. Members that say nothing are left out."""

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
    """The task that this is about: the one that failed, or whose state is in the way."""
    links: ProblemLinks | None = None
    estimate_seconds: float | None = None
    """How long the refused run was estimated to take."""
    limit_seconds: float | None = None
    """How long a synchronous run may be estimated to take."""
    needed_bytes: int | None = None
    """How much memory the refused run was estimated to need."""
    limit_bytes: int | None = None
    """How much memory a run may be estimated to need."""
    retry_after_seconds: int | None = None
    """When to try again, as in the header Retry-After."""
    error_id: str | None = None
    """Names the entry in the log of the service."""
