"""Links of a task, and the run that an answer suggests as a command."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pydantic import Field

from hotloop.app.schemas.base import ResponseModel


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


UNLINKED: Final = TaskLinks(status="", results="", cancel="", resume="", events="")
"""The links of a task until the answer is made: only the request knows how paths begin."""


class SuggestedRun(NamedTuple):
    """A run that an answer suggests. The answer shows it as a command, which needs the address at
    which the client reached the service.
    """

    strategy: str
    body: dict[str, Any]
    """The body to POST, as JSON."""
