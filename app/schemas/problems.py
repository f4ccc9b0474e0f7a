"""Errors as RFC 9457 problems, media type `application/problem+json`."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from hotloop.app.schemas.base import ResponseModel


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
