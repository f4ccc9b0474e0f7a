"""Server-sent events of a task."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query

from hotloop.app import errors
from hotloop.app.http.dependencies import StateDep, WatchedTaskDep
from hotloop.app.http.error_handlers import STORE_ERRORS, problem_responses
from hotloop.app.http.routes.event_stream import HEADERS, EventStreamResponse
from hotloop.app.http.routes.header_values import LastEventIdDep
from hotloop.app.http.routes.paths import EVENTS
from hotloop.app.schemas.events import EventQuery

router = APIRouter(prefix=EVENTS, tags=["background"])

_EXAMPLE: Final = """\
event: progress
data: {"task_id":"task_4f9d02aa_1735689600","status":"running","items_processed":50,"total_items":\
100,"progress":0.5,"throughput_items_per_second":25.0,"estimated_remaining_seconds":2.0,\
"start_time":"2025-01-01T00:00:00Z","end_time":null,"error_message":null,"attempts":1,\
"node":"node-1","shards":{"total":1,"completed":0},"waiting_for":null}
id: 12

"""

_STREAM: Final[dict[str, Any]] = {
    "description": (
        "Events `progress` and `state`, whose data is a TaskProgress as JSON; a comment every 15 "
        "seconds when nothing happens. The stream ends after the state in which the task ended, "
        "and when the service stops."
    ),
    "headers": {
        name: {"description": description, "schema": {"type": "string", "const": HEADERS[name]}}
        for name, description in (
            ("Cache-Control", "Events are never kept."),
            ("X-Accel-Buffering", "Asks proxies to pass events on at once."),
        )
    },
    "content": {
        "text/event-stream": {
            "example": _EXAMPLE,
            # As OpenAPI 3.2 has it.
            "itemSchema": {
                "type": "object",
                "required": ["data", "event", "id"],
                "properties": {
                    "event": {"type": "string", "enum": ["progress", "state"]},
                    "id": {"type": "string", "description": "For Last-Event-ID."},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {"$ref": "#/components/schemas/TaskProgress"},
                    },
                },
            },
        }
    },
}


@router.get(
    "/{task_id}",
    operation_id="watch_task",
    summary="Watch a task",
    status_code=200,
    response_class=EventStreamResponse,
    responses={
        200: _STREAM,
        204: {
            "description": (
                "The task has ended, and Last-Event-ID names its last event: there is nothing "
                "left to send, and browsers do not connect again."
            )
        },
        **problem_responses(errors.TaskNotFoundError, *STORE_ERRORS),
    },
)
async def watch_task(
    last_event_id: LastEventIdDep,
    task: WatchedTaskDep,
    state: StateDep,
    query: Annotated[EventQuery, Query()],
) -> EventStreamResponse:
    """Progress and changes of state as they happen (server-sent events), until the task has ended.

    The first event says how the task stands. After a break, the header Last-Event-ID, or the query
    field for clients that cannot set headers, has the stream go on where it was.
    """
    seen = last_event_id or query.last_event_id or None
    return EventStreamResponse(
        state.services.background.events(task.data.task_id, seen),
        state.stopping,
        only_if_any=seen is not None and task.status.has_ended,
    )
