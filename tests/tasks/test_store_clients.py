"""tasks.store: tasks of clients are listed, found by key, cleared, and counted in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.acceptance import accept
from hotloop.app.tasks.chunks import result_bytes
from hotloop.app.tasks.model import ShardRef, Task, new_task_id
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import begin

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


def test_idempotency_keys_are_separate_for_each_client(
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


def test_page_is_of_one_client_or_of_all(store: TaskStore, tasks: dict[str | None, Task]) -> None:
    page = store.page(limit=10, client="key:alice")
    assert [task.task_id for task in page.tasks] == [tasks["key:alice"].task_id]
    assert page.total == 1
    assert store.page(TaskStatus.COMPLETED, limit=10, client="key:alice").total == 0
    assert store.page(limit=10, client="key:carol").total == 0
    assert store.page(limit=10).total == len(CLIENTS)


def test_clearing_removes_tasks_of_one_client_or_of_all(
    store: TaskStore, tasks: dict[str | None, Task]
) -> None:
    assert store.delete_finished(client="key:carol") == []
    assert store.delete_finished(client="key:bob") == [tasks["key:bob"].task_id]
    assert store.page(limit=10).total == len(CLIENTS) - 1
    assert len(store.delete_finished()) == len(CLIENTS) - 1


def test_store_names_the_client_of_a_task(store: TaskStore, tasks: dict[str | None, Task]) -> None:
    for client, task in tasks.items():
        assert store.client_of(task.task_id) == client
    with pytest.raises(TaskNotFoundError):
        store.client_of("task_ffffffff_1700000000")


ITEM = 25
INPUT = 1_000


def kept(store: TaskStore, task: Task, input_bytes: int = INPUT) -> str:
    store.create(task, [])
    accept(store.engine, task.task_id, [task.total_items], None, "digest", input_bytes)
    return task.task_id


@pytest.fixture
def background(new_task: Callable[..., Task]) -> Callable[..., Task]:
    def make(**changes: object) -> Task:
        total = changes.get("total_items", 10)
        assert isinstance(total, int)
        plain = {"task_type": "background", "stored_bytes": total * ITEM, "item_bytes": ITEM}
        return new_task(**(plain | changes))

    return make


def test_results_take_as_many_bytes_as_are_counted() -> None:
    assert result_bytes("loops") == ITEM


def test_tasks_of_each_client_are_added_up(
    store: TaskStore, background: Callable[..., Task]
) -> None:
    for client in (None, "a", "a"):
        kept(store, background(client=client))
    assert store.stored_bytes("a") == 2 * (INPUT + 10 * ITEM)
    assert store.stored_bytes(None) == INPUT + 10 * ITEM
    assert store.stored_bytes("b") == 0


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_ended_task_counts_what_it_has_left(
    store: TaskStore,
    background: Callable[..., Task],
    result: Callable[..., BatchResult],
    status: TaskStatus,
) -> None:
    task_id = kept(store, background())
    execution = begin(store, task_id)
    execution.add(result(0, 10 if status is TaskStatus.COMPLETED else 4))
    assert store.get(task_id).stored_bytes == INPUT + 10 * ITEM
    if status is TaskStatus.CANCELLED:
        store.shards.cancel(task_id, lambda shards: {})
    else:
        execution.end(status)
    left = 10 * ITEM if status is TaskStatus.COMPLETED else INPUT + 4 * ITEM
    assert store.get(task_id).stored_bytes == left
    if status is not TaskStatus.COMPLETED:
        store.shards.resume(task_id)
        assert store.get(task_id).stored_bytes == INPUT + 10 * ITEM


def test_items_that_are_counted_later_count(
    store: TaskStore, background: Callable[..., Task]
) -> None:
    task_id = kept(store, background(total_items=0))
    execution = begin(store, task_id)
    store.shards.count_items(execution.shard.ref, 1, 40)
    assert store.get(task_id).stored_bytes == INPUT + 40 * ITEM


def test_synchronous_task_leaves_its_results_only(
    store: TaskStore, background: Callable[..., Task]
) -> None:
    task = background(task_type="synchronous", total_items=0)
    store.create(task)
    store.shards.begin(ShardRef(task.task_id, 0, 0), "1:1.0", 10)
    assert store.get(task.task_id).stored_bytes == 10 * ITEM
    assert store.interrupt_orphans(lambda owner: False) == [task.task_id]
    assert store.get(task.task_id).stored_bytes == 0


def test_files_stay_as_long_as_the_task_may_need_them(
    store: TaskStore, new_task: Callable[..., Task], bring_to: Callable[[Task, TaskStatus], None]
) -> None:
    """PostgreSQL has the items in the database as well."""
    needing: dict[str, bool] = {}
    for task_type in ("synchronous", "background"):
        for status in TaskStatus:
            task = new_task(task_type=task_type)
            bring_to(task, status)
            stays = status in (TaskStatus.PENDING, TaskStatus.RUNNING)
            if task_type == "background" and not store.inputs.is_needed:
                failed = store.get(task.task_id).failed_items  # they may be tried again
                stays = status is not TaskStatus.COMPLETED or failed > 0
            if task_type == "background" and store.inputs.is_needed:
                stays = status is TaskStatus.PENDING
            needing[task.task_id] = stays
    gone = "task_ffffffff_1700000000"
    found = store.needing_files([*needing, gone])
    assert found == {task_id for task_id, stays in needing.items() if stays}


def test_copies_stay_while_a_shard_waits_for_a_node(
    store: TaskStore, sharded: Callable[..., str]
) -> None:
    task_id = sharded([5, 5])
    begin(store, task_id, 0)
    assert store.needing_files([task_id]) == {task_id}
    begin(store, task_id, 1)
    assert store.needing_files([task_id]) == (set() if store.inputs.is_needed else {task_id})
