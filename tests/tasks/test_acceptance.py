"""tasks.acceptance, tasks.upkeep: late acceptance, tasks that serve others, returning nodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskKind, TaskStatus, TaskType
from hotloop.app.tasks.acceptance import accept, move_to_background
from hotloop.app.tasks.model import PART, ShardRef, Task
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.upkeep import withdraw_incomplete
from tests.fixtures.executions import begin, queued

Incomplete = Callable[..., Task]


@pytest.fixture
def incomplete(store: TaskStore, new_task: Callable[..., Task]) -> Incomplete:
    """Keeps a background task that has no shards yet."""

    def make(owner: str = "me") -> Task:
        task = new_task(task_type="background", owner=owner)
        store.create(task, [])
        return task

    return make


def test_task_is_not_queued_before_its_items_are_there(
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
    with pytest.raises(TaskConflictError, match="its items are incomplete"):
        store.shards.resume(task.task_id)
    assert store.get(task.task_id).status is TaskStatus.CANCELLED


def test_task_that_was_cancelled_before_it_had_shards_is_deleted_with_the_others(
    store: TaskStore, incomplete: Incomplete
) -> None:
    task, coming = incomplete(), incomplete()
    store.shards.cancel(task.task_id, lambda shards: {})
    assert store.delete_finished() == [task.task_id]
    assert store.get(coming.task_id) == coming


def test_unaccepted_task_ends_with_its_process(store: TaskStore, incomplete: Incomplete) -> None:
    kept, gone, accepted = incomplete("alive"), incomplete("dead"), incomplete("dead")
    accept(store.engine, accepted.task_id, [10], None)
    assert withdraw_incomplete(store.engine, {"alive"}) == [gone.task_id]
    with pytest.raises(TaskNotFoundError):
        store.get(gone.task_id)
    assert {store.status(t.task_id) for t in (kept, accepted)} == {TaskStatus.PENDING}


def _unchecked(count: int, seconds: float) -> None:
    """Let every client have as much as it asks for."""


def test_synchronous_task_moves_to_the_background_in_one_step(
    store: TaskStore, new_task: Callable[..., Task]
) -> None:
    task = new_task(task_type="synchronous", owner="me")
    store.create(task)
    long = replace(task, task_type="background", total_items=10, idempotency_key="key")
    seen: list[tuple[int, float]] = []

    def refuse(count: int, seconds: float) -> None:
        seen.append((count, seconds))
        raise TaskConflictError(task.task_id, "too many")

    with pytest.raises(TaskConflictError, match="too many"):
        move_to_background(store.engine, long, [6, 4], refuse)
    assert seen == [(0, 0.0)]
    assert store.get(task.task_id) == task
    assert not queued(store)
    move_to_background(store.engine, long, [6, 4], _unchecked)
    assert store.get(task.task_id) == long
    assert queued(store) == [ShardRef(task.task_id, 0, 0), ShardRef(task.task_id, 1, 0)]
    # Neither ends with the process that had accepted it.
    assert withdraw_incomplete(store.engine, set()) == []
    assert store.interrupt_orphans(lambda owner: False) == []


def test_task_moves_to_the_background_only_while_it_waits_and_its_key_is_free(
    store: TaskStore, new_task: Callable[..., Task]
) -> None:
    first, second = (new_task(task_type="synchronous", owner="me") for _ in range(2))
    for task in (first, second):
        store.create(task)
    keyed = replace(first, task_type="background", idempotency_key="key")
    move_to_background(store.engine, keyed, [10], _unchecked)
    same = replace(second, task_type="background", idempotency_key="key")
    with pytest.raises(TaskConflictError, match="another task has its key"):
        move_to_background(store.engine, same, [10], _unchecked)
    store.shards.begin(ShardRef(second.task_id, 0, 0), "me")
    with pytest.raises(TaskConflictError, match="is running; it was not accepted in the"):
        move_to_background(store.engine, replace(second, task_type="background"), [10], _unchecked)


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


NewTask = Callable[..., Task]


def test_tasks_are_listed_by_kind(store: TaskStore, new_task: NewTask) -> None:
    run, comparison = new_task(), new_task(kind=TaskKind.COMPARISON, kernel="", strategy="")
    for task in (run, comparison):
        store.create(task)
    assert store.page(kind="comparison", limit=9).tasks == (comparison,)
    assert store.page(kind="run", limit=9).tasks == (run,)
    assert store.page(limit=9).total == 2


def test_part_of_another_task_is_in_no_list(store: TaskStore, new_task: NewTask) -> None:
    store.create(new_task(kind=PART))
    page = store.page(limit=9)
    assert (page.tasks, page.total) == ((), 0)


@pytest.mark.parametrize("has_begun", [False, True])
def test_part_is_removed_in_any_state(store: TaskStore, new_task: NewTask, has_begun: bool) -> None:
    part, other = new_task(kind=PART), new_task()
    for task in (part, other):
        store.create(task)
    if has_begun:
        begin(store, part.task_id)
    for task in (part, other, part):
        store.remove_part(task.task_id)
    assert store.status(part.task_id) is None
    assert store.status(other.task_id) is TaskStatus.PENDING


def test_part_whose_process_is_gone_is_forgotten(store: TaskStore, new_task: NewTask) -> None:
    kinds = {PART: "dead", TaskKind.RUN: "dead", TaskKind.COMPARISON: "dead"}
    made = {
        kind: new_task(kind=kind, owner=owner, task_type=TaskType.SYNCHRONOUS)
        for kind, owner in kinds.items()
    }
    alive = new_task(kind=PART, owner="alive", task_type=TaskType.SYNCHRONOUS)
    for task in (*made.values(), alive):
        store.create(task)
    interrupted = store.interrupt_orphans("alive".__eq__)
    assert set(interrupted) == {made[TaskKind.RUN].task_id, made[TaskKind.COMPARISON].task_id}
    assert store.status(made[PART].task_id) is None
    assert store.status(alive.task_id) is TaskStatus.PENDING
