"""Answers about tasks: their links, the 202 of an accepted task, and commands to copy."""

from __future__ import annotations

import json
import re
from shlex import quote
from typing import Any, Final, TypeVar

from fastapi import Request, Response
from starlette.types import Scope

from hotloop.app.schemas.base import SuggestedRun, TaskLinks
from hotloop.app.schemas.comparison import Comparison
from hotloop.app.schemas.recommendation import Recommendation
from hotloop.app.schemas.tasks import AcceptedRun, TaskSummary, TaskView

TASKS: Final = "/api/v1/tasks"
WORKLOADS: Final = "/api/v1/workloads"
EVENTS: Final = f"{TASKS}/events"
UPLOAD: Final = f"{TASKS}/upload"
SESSION: Final = "/session"

CSV: Final = "text/csv"
HTML: Final = "text/html"
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"

RESPOND_ASYNC: Final = "respond-async"
"""The preference (RFC 7240) of a client that wants a background task."""

VARY_HEADER: Final[dict[str, Any]] = {
    "Vary": {
        "description": "The answer depends on the header Prefer.",
        "schema": {"type": "string", "const": "Prefer"},
    }
}
"""OpenAPI of the header of answers that depend on Prefer."""

_LOCATION: Final[dict[str, Any]] = {
    "Location": {
        "description": "Path of the task's status.",
        "schema": {"type": "string", "format": "uri-reference"},
        "example": "/api/v1/tasks/status/task_4f9d02aa71c3e85b_1735689600",
    }
}


def _preferred(model: type[TaskView], description: str, preference: str) -> dict[str, Any]:
    applied = {"description": preference, "schema": {"type": "string", "const": RESPOND_ASYNC}}
    headers = {**_LOCATION, "Preference-Applied": applied, **VARY_HEADER}
    return {"description": description, "model": model, "headers": headers}


ACCEPTED: Final[dict[str, Any]] = {
    "description": "Accepted: the task is kept, and is executed later.",
    "model": TaskView,
    "headers": _LOCATION,
}
"""OpenAPI of the answer 202."""

ACCEPTED_AS_PREFERRED: Final = _preferred(
    TaskView,
    "With `Prefer: respond-async`: accepted, and executed in the background.",
    "The preference that was met.",
)
"""OpenAPI of the answer 202 of a route that otherwise answers with the result."""

ACCEPTED_RUN: Final = _preferred(
    AcceptedRun,
    "Accepted, and executed in the background: with `Prefer: respond-async`, or because the run is "
    "estimated beyond the limit of a synchronous one (`HOTLOOP_SYNC_LIMIT_SECONDS`, "
    "`HOTLOOP_LONG_RUNS`), which `message` then says.",
    "The preference that was met, where there was one.",
)
"""OpenAPI of the answer 202 of a route whose runs may be too long to wait for."""

_ADDRESS: Final = re.compile(
    r"https?://([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
)

V = TypeVar("V", bound=TaskSummary)
S = TypeVar("S", Comparison, Recommendation)


def path_of(scope: Scope) -> str:
    """Return the path of a request without the prefix that `link_to` adds."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def link_to(request: Request, path: str = "") -> str:
    """Return a path of this service with the prefix under which the request reached it: the prefix
    of a proxy, or of an application that the service is mounted in.
    """
    prefix: str = request.scope.get("root_path", "")
    return prefix + path


def task_links(request: Request, task_id: str) -> TaskLinks:
    tasks = link_to(request, TASKS)
    return TaskLinks(
        status=f"{tasks}/status/{task_id}",
        results=f"{tasks}/results/{task_id}",
        cancel=f"{tasks}/{task_id}",
        resume=f"{tasks}/{task_id}/resume",
        retry_failed=f"{tasks}/{task_id}/retry-failed",
        events=f"{tasks}/events/{task_id}",
    )


def linked(request: Request, task: V) -> V:
    """Return the task with its links, and its comparison with links and command."""
    changes: dict[str, Any] = {"links": task_links(request, task.task_id)}
    if isinstance(task, TaskView) and task.comparison is not None:
        changes["comparison"] = linked_comparison(request, task.comparison)
    return task.model_copy(update=changes)


def linked_comparison(request: Request, found: Comparison) -> Comparison:
    """Return the comparison with its links and the command that runs the fastest cell."""
    links = task_links(request, found.task_id)
    return with_command(request, found).model_copy(update={"links": links})


def with_command(request: Request, found: S) -> S:
    """Return the comparison or recommendation with the command for its suggested run, if any."""
    if found.suggested is None:
        return found
    return found.model_copy(update={"curl": _curl(request, found.suggested)})


def _curl(request: Request, run: SuggestedRun) -> str:
    url = quote(f"{_base_url(request)}{TASKS}/{run.strategy}")
    return f"curl -s {url} -H 'Content-Type: {JSON}' -d {quote(json.dumps(run.body))}"


def _base_url(request: Request) -> str:
    """Return the address at which the client reached the service; if its Host is not safe in a
    command, the address at which the service listens.
    """
    address = str(request.url.replace(path="", query="", fragment=""))
    if _ADDRESS.fullmatch(address):
        return address + link_to(request)
    settings = request.app.state.shared.settings
    return f"http://{settings.host}:{settings.port}"


def accepted(request: Request, task: TaskView, *, as_preferred: bool = False) -> Response:
    """Return the answer 202; `as_preferred` if the client asked for it by the header Prefer."""
    task = linked(request, task)
    headers = {"Location": task.links.status}
    if as_preferred:
        headers |= {"Preference-Applied": RESPOND_ASYNC, "Vary": "Prefer"}
    elif isinstance(task, AcceptedRun):
        headers["Vary"] = "Prefer"
    return Response(task.model_dump_json(), 202, headers, JSON)
