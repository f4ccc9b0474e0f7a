"""The OpenAPI description: problems of routes, and other parts that FastAPI cannot derive."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import deepcopy
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic.json_schema import models_json_schema

from hotloop.app import errors
from hotloop.app.http.described import BODIES, REFERENCE, describe_workloads
from hotloop.app.http.error_handlers import ERROR_KINDS, HTTP_KINDS, MEDIA_TYPE, ProblemKind
from hotloop.app.schemas.base import Problem
from hotloop.app.schemas.calls import CallRequest
from hotloop.app.schemas.tasks import TaskProgress
from hotloop.kernels import Workload, declared_workloads

DESCRIPTION: Final = """\
CPU-heavy work behind FastAPI: any strategy, any kernel, measured, off the event loop.

Start with `POST /api/v1/tasks/hybrid` and the body `{"items_count": 100, "db_delay_ms": 10}`.

* A **workload** is what is computed for an item, a **kernel** implements it, a **strategy**
  executes the items batch by batch.
* Times are UTC; a field ending in `_seconds` is in seconds, in `_ms` in milliseconds, in `_bytes`
  in bytes.
* A float that is NaN or infinite is null in JSON and NDJSON, which cannot hold it; results as CSV
  (`nan`, `inf`), Arrow or Parquet have it.
* In a query, a parameter of the workload is `parameters.NAME`; where no field of the query has the
  same name, `NAME` alone will do.
* Every error is a problem (`application/problem+json`) that says what to do instead.
"""

_RETRY_AFTER: Final[dict[str, Any]] = {
    "description": "Seconds after which to try again; absent if the service cannot tell.",
    "schema": {"type": "integer", "minimum": 0},
}

ACCESS_ERRORS: Final = (
    errors.UnauthorizedError,
    errors.ForbiddenError,
    errors.MissingScopeError,
    errors.RateLimitedError,
)
"""Errors that any authenticated route may return."""

STORE_ERRORS: Final = (errors.StoreError, errors.StoreUnavailableError)
"""Errors that any route that uses the task store may return."""

QUOTA_ERRORS: Final = (
    errors.RateLimitedError,
    errors.ClientLimitError,
    errors.ClientStorageError,
    errors.TooBusyError,
)
"""Errors for a client that exceeds one of its limits, or when the service is full."""

SUBMIT_ERRORS: Final = (
    errors.IdempotencyConflictError,
    errors.PayloadTooLargeError,
    errors.BodyTooSlowError,
    *QUOTA_ERRORS,
    errors.KeyInUseError,
    errors.NotReadyError,
    *STORE_ERRORS,
)
"""Errors that any route that accepts a background task may return."""

RUN_ERRORS: Final = (
    errors.EstimateTooLongError,
    errors.MemoryBudgetError,
    *SUBMIT_ERRORS,
    errors.RunTimeoutError,
    errors.RunCancelledError,
    errors.ErrorRateExceededError,
    errors.WorkerCrashedError,
    errors.RunHostDiedError,
    errors.ClusterLostError,
    errors.ClusterUnusableError,
)
"""Errors of a run, whether its items come in the body or as a file."""

TAGS: Final[list[dict[str, Any]]] = [
    {"name": "runs", "description": "Run now and answer with the result."},
    {"name": "calls", "description": "Workloads, and a few items computed at once."},
    {"name": "background", "description": "Tasks that are accepted now and executed later."},
    {"name": "comparisons", "description": "Strategies × kernels, measured side by side."},
    {"name": "recommendations", "description": "Predictions of the fastest ways to run a request."},
    {"name": "tasks", "description": "Strategies, kernels, and the state of a task."},
    {"name": "results", "description": "Stored tasks, and every item's result."},
    {"name": "service", "description": "The service itself: its state, figures and sessions."},
]


_OF_WORKLOADS: Final = ("KernelName", "KernelChoice")
"""Models that change with the declared workloads."""


def complete_openapi(app: FastAPI) -> None:
    """Make `app.openapi()` describe the workloads that are declared now, and add the models that
    routes refer to by name.

    The first call takes some tenths of a second, so a server makes it before it serves.
    """
    derive = app.openapi
    described: list[tuple[tuple[Workload, ...], dict[str, Any]]] = []

    def complete() -> dict[str, Any]:
        workloads = declared_workloads()
        if not described or described[0][0] != workloads:
            described[:] = [(workloads, _completed(deepcopy(derive()), workloads))]
        return described[0][1]

    app.openapi = complete  # type: ignore[method-assign]  # as FastAPI documents it


def _completed(description: dict[str, Any], workloads: tuple[Workload, ...]) -> dict[str, Any]:
    _, schema = models_json_schema(
        [
            (Problem, "serialization"),
            *((model, "validation") for model in BODIES.values()),
            (TaskProgress, "serialization"),
            (CallRequest, "validation"),
        ],
        ref_template=REFERENCE,
    )
    for content in _contents(description):
        if "itemSchema" in content:
            del content["schema"]  # FastAPI's "text", which would describe the stream as a whole
    components = description.setdefault("components", {}).setdefault("schemas", {})
    for name, model in schema["$defs"].items():
        # FastAPI's own are those of the first call, when other kernels may have been declared.
        if name in _OF_WORKLOADS or name not in components:
            components[name] = model
    describe_workloads(description, schema["$defs"], workloads)
    return description


def _contents(description: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the content of every media type of every answer."""
    for path in description["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                yield from answer.get("content", {}).values()


def problem_responses(*sources: type[Exception] | int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route that may answer with these errors or HTTP statuses.

    422 and 500 are documented for every route.
    """
    return documented_problems(*sources, RequestValidationError, Exception)


def documented_problems(*sources: type[Exception] | int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` for these errors or HTTP statuses alone."""
    kinds: dict[int, dict[str, ProblemKind]] = {}
    for source in sources:
        kind = HTTP_KINDS[source] if isinstance(source, int) else ERROR_KINDS[source]
        kinds.setdefault(kind.status, {})[kind.name] = kind
    return {status: _documented(named.values()) for status, named in sorted(kinds.items())}


def _documented(kinds: Collection[ProblemKind]) -> dict[str, Any]:
    lines = [f"{kind.title} (`{kind.type}`)." for kind in kinds]
    schema = {"$ref": "#/components/schemas/Problem"}
    documented: dict[str, Any] = {
        "description": "\n\n".join(lines),
        "content": {MEDIA_TYPE: {"schema": schema}},
    }
    if any(kind.status in (429, 503) for kind in kinds):
        documented["headers"] = {"Retry-After": _RETRY_AFTER}
    return documented
