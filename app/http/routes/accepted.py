"""The answer 202: the task was accepted, and where to ask for it."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from hotloop.app import errors
from hotloop.app.http.error_handlers import STORE_ERRORS
from hotloop.app.http.links import linked
from hotloop.app.http.routes.media_types import JSON
from hotloop.app.http.routes.prefer import RESPOND_ASYNC, VARY_HEADER
from hotloop.app.schemas.tasks import AcceptedRun, TaskView

SUBMIT_ERRORS: Final = (
    errors.IdempotencyConflictError,
    errors.PayloadTooLargeError,
    errors.BodyTooSlowError,
    errors.RateLimitedError,
    errors.ClientLimitError,
    errors.ClientStorageError,
    errors.TooBusyError,
    errors.KeyInUseError,
    errors.NotReadyError,
    *STORE_ERRORS,
)
"""Why a background task may not be accepted."""

ACCEPTED: Final[dict[str, Any]] = {
    "description": "Accepted: the task is kept, and is executed later.",
    "model": TaskView,
    "headers": {
        "Location": {
            "description": "Path of the task's status.",
            "schema": {"type": "string", "format": "uri-reference"},
            "example": "/api/v1/tasks/status/task_4f9d02aa_1735689600",
        }
    },
}
"""For OpenAPI."""

ACCEPTED_AS_PREFERRED: Final[dict[str, Any]] = {
    **ACCEPTED,
    "description": "With `Prefer: respond-async`: accepted, and executed in the background.",
    "headers": {
        **ACCEPTED["headers"],
        "Preference-Applied": {
            "description": "The preference that was met.",
            "schema": {"type": "string", "const": RESPOND_ASYNC},
        },
        **VARY_HEADER,
    },
}
"""For OpenAPI, where a synchronous run would have been the answer."""


ACCEPTED_RUN: Final[dict[str, Any]] = {
    **ACCEPTED_AS_PREFERRED,
    "model": AcceptedRun,
    "description": (
        "Accepted, and executed in the background: with `Prefer: respond-async`, or because the "
        "run is estimated beyond the limit of a synchronous one (`HOTLOOP_SYNC_LIMIT_SECONDS`, "
        "`HOTLOOP_LONG_RUNS`), which `message` then says."
    ),
    "headers": {
        **ACCEPTED_AS_PREFERRED["headers"],
        "Preference-Applied": {
            "description": "The preference that was met, where there was one.",
            "schema": {"type": "string", "const": RESPOND_ASYNC},
        },
    },
}
"""The OpenAPI description of a 202 where a run may be too long to wait for."""


def accepted_run(request: Request, run: AcceptedRun) -> Response:
    """The answer to a client that would have waited."""
    answer = accepted(request, run)
    answer.headers["Vary"] = "Prefer"
    return answer


def accepted(request: Request, task: TaskView, *, as_preferred: bool = False) -> Response:
    """The answer; `as_preferred` when it was the header Prefer that asked for it."""
    task = linked(request, task)
    headers = {"Location": task.links.status}
    if as_preferred:
        headers |= {"Preference-Applied": RESPOND_ASYNC, "Vary": "Prefer"}
    return Response(task.model_dump_json(), 202, headers, JSON)
