"""Tasks of clients: listed, cleared and found by key apart from those of others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.model import Task, new_task_id
from hotloop.app.tasks.store import TaskStore

NewTask = Callable[..., Task]
CLIENTS = (None, "key:alice", "key:bob")


@pytest.fixture
def tasks(store: TaskStore, new_task: NewTask) -> dict[str | None, Task]:
    """A finished task of each client, all asked for under the same key."""
    made = {client: _of(client, new_task) for client in CLIENTS}
    for task in made.values():
        store.create(task)
        store.finish_unbegun(task.task_id, TaskStatus.FAILED, "code", "text")
    return made


def _of(client: str | None, new_task: NewTask) -> Task:
    task = replace(new_task(), task_id=new_task_id())
    return replace(task, client=client, idempotency_key="k", request_hash="h")


def test_each_client_has_keys_of_its_own(
    store: TaskStore, tasks: dict[str | None, Task], new_task: NewTask
) -> None:
    for client, task in tasks.items():
        known = store.by_key("k", client)
        assert known is not None
        assert (known.task_id, known.client) == (task.task_id, client)
        with pytest.raises(TaskConflictError):
            store.create(_of(client, new_task))
    assert store.by_key("k", "key:carol") is None
    assert store.page(limit=10).total == len(CLIENTS)


def test_tasks_without_a_key_are_as_many_as_wanted(store: TaskStore, new_task: NewTask) -> None:
    for client in (*CLIENTS, *CLIENTS):
        store.create(replace(_of(client, new_task), idempotency_key=None))
    assert store.page(limit=10).total == 2 * len(CLIENTS)


def test_pages_are_a_clients_or_all(store: TaskStore, tasks: dict[str | None, Task]) -> None:
    page = store.page(limit=10, client="key:alice")
    assert [task.task_id for task in page.tasks] == [tasks["key:alice"].task_id]
    assert page.total == 1
    assert store.page(TaskStatus.COMPLETED, limit=10, client="key:alice").total == 0
    assert store.page(limit=10, client="key:carol").total == 0
    assert store.page(limit=10).total == len(CLIENTS)


def test_clearing_takes_a_clients_or_all(store: TaskStore, tasks: dict[str | None, Task]) -> None:
    assert store.delete_finished(client="key:carol") == []
    assert store.delete_finished(client="key:bob") == [tasks["key:bob"].task_id]
    assert store.page(limit=10).total == len(CLIENTS) - 1
    assert len(store.delete_finished()) == len(CLIENTS) - 1


def test_whose_a_task_is(store: TaskStore, tasks: dict[str | None, Task]) -> None:
    for client, task in tasks.items():
        assert store.client_of(task.task_id) == client
    with pytest.raises(TaskNotFoundError):
        store.client_of("task_ffffffff_1700000000")
