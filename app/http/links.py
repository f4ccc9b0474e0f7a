"""Paths, addresses and commands in answers, as the client of a request has to write them."""

from __future__ import annotations

import json
import re
from shlex import quote
from typing import Any, Final, TypeVar

from fastapi import Request

from hotloop.app.schemas.comparison import Comparison
from hotloop.app.schemas.links import SuggestedRun, TaskLinks
from hotloop.app.schemas.recommendation import Recommendation
from hotloop.app.schemas.tasks import TaskSummary, TaskView

TASKS: Final = "/api/v1/tasks"
EVENTS: Final = f"{TASKS}/events"
UPLOAD: Final = f"{TASKS}/upload"
SESSION: Final = "/session"

_ADDRESS: Final = re.compile(
    r"https?://([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
)

V = TypeVar("V", bound=TaskSummary)
S = TypeVar("S", Comparison, Recommendation)


def link_to(request: Request, path: str = "") -> str:
    """A path of this service with the prefix below which the request reached it: that of a proxy,
    or of an application that the service is mounted in.
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
        events=f"{tasks}/events/{task_id}",
    )


def linked(request: Request, task: V) -> V:
    """The task with its links, and its comparison with its own."""
    changes: dict[str, Any] = {"links": task_links(request, task.task_id)}
    if isinstance(task, TaskView) and task.comparison is not None:
        changes["comparison"] = linked_comparison(request, task.comparison)
    return task.model_copy(update=changes)


def linked_comparison(request: Request, found: Comparison) -> Comparison:
    """The comparison with its links and the command that runs the fastest cell."""
    links = task_links(request, found.task_id)
    return with_command(request, found).model_copy(update={"links": links})


def with_command(request: Request, found: S) -> S:
    """The comparison or recommendation with the command that runs what it suggests, if anything."""
    if found.suggested is None:
        return found
    return found.model_copy(update={"curl": _curl(request, found.suggested)})


def _curl(request: Request, run: SuggestedRun) -> str:
    url = quote(f"{_base_url(request)}{TASKS}/{run.strategy}")
    return f"curl -s {url} -H 'Content-Type: application/json' -d {quote(json.dumps(run.body))}"


def _base_url(request: Request) -> str:
    """Where the client reached the service; where the service listens, if the Host is not fit for
    a command.
    """
    address = str(request.url.replace(path="", query="", fragment=""))
    if _ADDRESS.fullmatch(address):
        return address + link_to(request)
    settings = request.app.state.shared.settings
    return f"http://{settings.host}:{settings.port}"
