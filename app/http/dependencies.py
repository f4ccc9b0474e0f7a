"""Dependencies of routes: the services, and the task that a request may act on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Path, Request

from hotloop.app.database.threads import in_store_thread
from hotloop.app.errors import TaskNotFoundError
from hotloop.app.execution.events import Moment
from hotloop.app.http.access import ClientDep
from hotloop.app.names import is_task_id
from hotloop.app.security.clients import Client
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.store import TaskStore
from hotloop.app.wiring import Services


@dataclass(frozen=True, slots=True)
class AppState:
    """Objects that all requests share, set once when the service has started."""

    settings: Settings
    services: Services
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server begins to stop, before it waits for the answers in progress. An answer
    without an end of its own (a stream of events) ends when this is set."""


# All dependencies are coroutines, because FastAPI runs plain functions in its shared thread pool.


async def get_state(request: Request) -> AppState:
    return cast(AppState, request.app.state.shared)


StateDep = Annotated[AppState, Depends(get_state)]


async def get_services(state: StateDep) -> Services:
    return state.services


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_task_id(
    task_id: Annotated[
        str,
        Path(
            description=(
                "`task_`, 24 hexadecimal digits (fewer in early versions), `_`, seconds since 1970."
            ),
            examples=["task_4f9d02aa71c3e85b_1735689600"],
        ),
    ],
) -> str:
    """Return the id. Raises TaskNotFoundError for text that cannot be an id, without a query."""
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id[:40])
    return task_id


TaskIdDep = Annotated[str, Depends(get_task_id)]
"""The id of a task that may belong to another client. Routes use OwnTaskDep or WatchedTaskDep."""


def sees(client: Client, owner: str | None) -> bool:
    """Return True if a client may see a task of the client with the id `owner`.

    A task that was accepted while the service had no keys belongs to no client (None), and only
    administrators see it.
    """
    return client.sees_all or (owner is not None and owner == client.id)


def is_own(store: TaskStore, client: Client, task_id: str) -> bool:
    """Return True if the task exists and the client may see it. Blocks; raises StoreError."""
    try:
        return sees(client, store.client_of(task_id))
    except TaskNotFoundError:
        return False


async def get_own_task(task_id: TaskIdDep, client: ClientDep, services: ServicesDep) -> str:
    """Return the task's id. Raises TaskNotFoundError for another client's task, so that it looks
    exactly like a task that does not exist.
    """
    if not (client.sees_all or await in_store_thread(is_own, services.store, client, task_id)):
        raise TaskNotFoundError(task_id)
    return task_id


async def get_watched_task(task_id: TaskIdDep, client: ClientDep, services: ServicesDep) -> Moment:
    """Return the state of the task. Raises TaskNotFoundError for another client's task.

    Event streams need the state anyway, and the event hub reads it for many streams at once: a
    thousand clients that connect at the same time do not cost a read each.
    """
    moment = await services.background.now(task_id)
    if not sees(client, moment.client):
        raise TaskNotFoundError(task_id)
    return moment


async def get_visible(client: ClientDep) -> str | None:
    """Return the id of the client whose tasks may be listed and cleared; None means all tasks."""
    return None if client.sees_all else client.id


OwnTaskDep = Annotated[str, Depends(get_own_task)]
"""The id of the task in the path, which the client may see. Every route with a task id needs this
or WatchedTaskDep."""

WatchedTaskDep = Annotated[Moment, Depends(get_watched_task)]
VisibleDep = Annotated[str | None, Depends(get_visible)]
