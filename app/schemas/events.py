"""Events of a task: what happens to it, as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from app.schemas.base import RequestModel
from app.schemas.tasks import TaskView


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """Something that happened to a task."""

    id: str
    """Names the event among those of its task: one line of at most 255 visible ASCII characters."""
    event: Literal["progress", "state"]
    data: TaskView
    """The task after it."""


class EventQuery(RequestModel):
    """From where on to tell events."""

    last_event_id: str | None = Field(
        default=None, max_length=255, pattern=r"^[!-~]*$", examples=["12"]
    )
    """The `id` of the last event that was received; the header Last-Event-ID decides before it."""
