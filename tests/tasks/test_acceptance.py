"""Tasks whose items are still coming in, and nodes that join again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.errors import TaskConflictError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.acceptance import accept, withdraw_incomplete
from app.tasks.model import ShardRef, Task
from app.tasks.nodes import NodeStore
from app.tasks.store import TaskStore
from tests.fixtures.executions import queued

Incomplete = Callable[..., Task]


@pytest.fixture
def incomplete(store: TaskStore, new_task: Callable[..., Task]) -> Incomplete:
    """Keeps a background task that has no shards yet."""

    def make(owner: str = "me") -> Task:
        task = new_task(task_type="background", owner=owner)
        store.create(task, [])
        return task

    return make


def test_task_is_executed_by_nobody_before_its_items_are_there(
    store: TaskStore, incomplete: Incomplete
) -> None:
    task = incomplete()
    assert not queued(store)
    assert not store.shards.of_task(task.task_id)
    accept(store.engine, task.task_id, [6, 4], "hash")
    refs = [ShardRef(task.task_id, 0, 0), ShardRef(task.task_id, 1, 0)]
    assert queued(store) == refs
    assert store.get(task.task_id).request_hash == "hash"


def test_task_that_was_cancelled_meanwhile_is_not_accepted_and_not_resumed(
    store: TaskStore, incomplete: Incomplete
) -> None:
    task = incomplete()
    assert store.shards.cancel(task.task_id, lambda shards: {}) == []
    with pytest.raises(TaskConflictError, match="came too late"):
        accept(store.engine, task.task_id, [10], None)
    with pytest.raises(TaskConflictError, match="never came in whole"):
        store.shards.resume(task.task_id)
    assert store.get(task.task_id).status is TaskStatus.CANCELLED


def test_task_that_was_cancelled_before_it_had_shards_is_deleted_with_the_others(
    store: TaskStore, incomplete: Incomplete
) -> None:
    task, coming = incomplete(), incomplete()
    store.shards.cancel(task.task_id, lambda shards: {})
    assert store.delete_finished() == [task.task_id]
    assert store.get(coming.task_id) == coming


def test_task_goes_with_the_process_that_received_it(
    store: TaskStore, incomplete: Incomplete
) -> None:
    kept, gone, accepted = incomplete("alive"), incomplete("dead"), incomplete("dead")
    accept(store.engine, accepted.task_id, [10], None)
    assert withdraw_incomplete(store.engine, {"alive"}) == [gone.task_id]
    with pytest.raises(TaskNotFoundError):
        store.get(gone.task_id)
    assert {store.status(t.task_id) for t in (kept, accepted)} == {TaskStatus.PENDING}


def test_node_that_was_declared_dead_joins_again_when_its_work_is_put_back(
    store: TaskStore,
) -> None:
    frozen = NodeStore(store.engine, "frozen", "test")
    other = NodeStore(store.engine, "other", "test")
    assert frozen.beat()
    assert other.beat()
    (node,) = (n for n in other.list() if n.node_id == "frozen")
    assert other.claim(node)
    assert not frozen.beat()
    assert not frozen.rejoin()
    # The one that claimed it could not adopt its work: it tries again.
    assert [n.node_id for n in other.dead()] == ["frozen"]
    other.remove("frozen")
    assert not frozen.beat()
    assert frozen.rejoin()
    assert frozen.beat()
    assert other.dead() == ()
