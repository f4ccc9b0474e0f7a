"""Events of a task: what happens to it, as it happens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from pydantic import Field, TypeAdapter

from hotloop.app.schemas.base import RequestModel
from hotloop.app.schemas.tasks import TaskProgress

_PROGRESS: Final = TypeAdapter(TaskProgress)


@dataclass(frozen=True, eq=False)
class TaskEvent:
    """Something that happened to a task. Watchers share it."""

    id: str
    """Names the event among those of its task: one line of at most 255 visible ASCII characters."""
    event: Literal["progress", "state"]
    data: TaskProgress
    """The task after it."""

    @cached_property
    def encoded(self) -> bytes:
        """The event in the format of `text/event-stream`."""
        # JSON has no line breaks, which would end the field.
        data = _PROGRESS.dump_json(self.data)
        return b"event: %b\ndata: %b\nid: %b\n\n" % (self.event.encode(), data, self.id.encode())


class EventQuery(RequestModel):
    """From where on to tell events."""

    last_event_id: str | None = Field(
        default=None, max_length=255, pattern=r"^[!-~]*$", examples=["12"]
    )
    """The `id` of the last event that was received; the header Last-Event-ID decides before it."""
