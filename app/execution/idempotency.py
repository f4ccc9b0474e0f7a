"""Requests under an idempotency key that has a task already: the answer is that task's."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from hotloop.app.errors import IdempotencyConflictError, KeyInUseError
from hotloop.app.execution.context import RunContext
from hotloop.app.execution.presenters import task_view
from hotloop.app.schemas.tasks import TaskView
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.threads import in_store_thread

FIRST_SECONDS: Final = 20.0
"""Time that a request waits for the first one with its key to come in."""

LOOK_SECONDS: Final = 0.1
"""Between two looks for that."""


async def complete(store: TaskStore, known: Task) -> Task | None:
    """Wait until the request of a task under a key is complete, and return the task; None when it
    is withdrawn instead. Raises KeyInUseError when that takes too long, StoreError, and
    IdempotencyConflictError when the task was cancelled before its request was complete.
    """
    give_up = time.monotonic() + FIRST_SECONDS
    key = known.idempotency_key
    assert key is not None
    first: Task | None = known
    while first is not None and first.request_hash is None:
        if first.end_time is not None:
            raise IdempotencyConflictError(first.task_id)
        if time.monotonic() > give_up:
            raise KeyInUseError(first.task_id)
        await asyncio.sleep(LOOK_SECONDS)
        first = await in_store_thread(store.by_key, key, known.client)
    return first


async def answer(context: RunContext, first: Task, request_hash: str | None) -> TaskView:
    """The answer to a request whose key belongs to a complete task. Raises StoreError, and
    IdempotencyConflictError when that was asked for otherwise.
    """
    if first.request_hash != request_hash:
        raise IdempotencyConflictError(first.task_id)
    return await in_store_thread(task_view, context.store, context.bodies, first.task_id)


async def answer_once_complete(
    context: RunContext, known: Task, request_hash: str | None
) -> TaskView:
    """Wait until the task's request is complete, and answer with it. Raises what the other two
    raise, and KeyInUseError when the task is withdrawn: for a caller that has nothing left to take
    its place with.
    """
    first = await complete(context.store, known)
    if first is None:
        raise KeyInUseError(known.task_id)
    return await answer(context, first, request_hash)
