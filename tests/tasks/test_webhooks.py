"""Webhooks in both databases: due at the end, taken by one process, told again after a resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.webhooks import WebhookState, WebhookStore
from tests.fixtures.executions import begin, summary

NewTask = Callable[..., Task]
URL = "https://example.com/done"


def stored(store: TaskStore, new_task: NewTask, url: str | None = URL) -> Task:
    task = replace(new_task(), task_type=TaskType.BACKGROUND, spec={"webhook": url})
    store.create(task)
    return task


def test_end_makes_it_due(store: TaskStore, new_task: NewTask) -> None:
    hooks = WebhookStore(store.engine)
    told, silent = stored(store, new_task), stored(store, new_task, None)
    assert hooks.due(5) == []
    assert hooks.state(told.task_id) == WebhookState(0, None, None)
    assert hooks.state(silent.task_id) is None
    for task in (told, silent):
        begin(store, task.task_id).end(TaskStatus.FAILED, error_code="E")
    (due,) = hooks.due(5)
    assert due.task == store.get(told.task_id)


def test_every_kind_of_end_makes_it_due(store: TaskStore, new_task: NewTask) -> None:
    hooks = WebhookStore(store.engine)
    cancelled, unbegun = stored(store, new_task), stored(store, new_task)
    store.shards.cancel(cancelled.task_id, summary)
    store.finish_unbegun(unbegun.task_id, TaskStatus.FAILED, "E", "it cannot be")
    assert {due.task.task_id for due in hooks.due(5)} == {cancelled.task_id, unbegun.task_id}
    assert len(hooks.due(1)) == 1


def test_attempt_is_made_by_one_process(store: TaskStore, new_task: NewTask) -> None:
    hooks = WebhookStore(store.engine)
    task = stored(store, new_task)
    store.shards.cancel(task.task_id, summary)
    (due,) = hooks.due(5)
    until = time.time() + 60
    assert hooks.take(due, until)
    assert not hooks.take(due, until + 1)
    assert hooks.due(5) == []
    soon = time.time() - 1
    hooks.failed(due, until, "the receiver answered 500", soon)
    assert hooks.state(task.task_id) == WebhookState(1, None, "the receiver answered 500")
    (again,) = hooks.due(5)
    assert (again.attempts, again.next_at) == (1, soon)
    assert hooks.take(again, until)
    hooks.delivered(again, until)
    state = hooks.state(task.task_id)
    assert state is not None
    assert (state.attempts, state.error) == (2, None)
    assert state.delivered_at is not None
    assert hooks.due(5) == []


def test_process_that_dies_in_an_attempt_leaves_it_to_others(
    store: TaskStore, new_task: NewTask
) -> None:
    hooks = WebhookStore(store.engine)
    task = stored(store, new_task)
    store.shards.cancel(task.task_id, summary)
    (due,) = hooks.due(5)
    assert hooks.take(due, time.time() - 0.001)  # and is not heard of again
    (again,) = hooks.due(5)
    assert again.attempts == 1
    hooks.delivered(due, time.time())
    assert hooks.state(task.task_id) == WebhookState(1, None, None)


def test_task_that_goes_on_ends_once_more(store: TaskStore, new_task: NewTask) -> None:
    hooks = WebhookStore(store.engine)
    task = stored(store, new_task)
    store.shards.cancel(task.task_id, summary)
    (first,) = hooks.due(5)
    store.shards.resume(task.task_id)
    assert hooks.due(5) == []
    assert not hooks.take(first, time.time() + 60)
    store.shards.cancel(task.task_id, summary)
    (second,) = hooks.due(5)
    assert (second.number, second.attempts) == (1, 0)


def test_webhook_goes_with_its_task(store: TaskStore, new_task: NewTask) -> None:
    hooks = WebhookStore(store.engine)
    task = stored(store, new_task)
    store.shards.cancel(task.task_id, summary)
    store.delete(task.task_id)
    assert hooks.due(5) == []
    assert hooks.state(task.task_id) is None
