"""tasks.store: pages of tasks, deletion, orphans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.model import FINISHED, UNFINISHED, Task
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import begin, summary

pytestmark = pytest.mark.long

NewTask = Callable[..., Task]
BringTo = Callable[[Task, TaskStatus], None]
Running = Callable[[int], str]


# --- pages ---------------------------------------------------------------------------------


def test_page_is_newest_first_whatever_the_order_of_creation(
    store: TaskStore, new_task: NewTask
) -> None:
    tasks = [new_task() for _ in range(7)]
    for task in (*tasks[3:], *tasks[:3]):
        store.create(task)
    pages = [store.page(limit=3, offset=offset) for offset in (0, 3, 6, 9)]
    assert [task for page in pages for task in page.tasks] == tasks
    assert [len(page.tasks) for page in pages] == [3, 3, 1, 0]
    assert [page.total for page in pages] == [7] * 4


def test_page_has_a_fixed_order_for_tasks_of_one_moment(
    store: TaskStore, new_task: NewTask
) -> None:
    tasks = [new_task(created_at=datetime(2024, 1, 1, tzinfo=UTC)) for _ in range(5)]
    for task in tasks:
        store.create(task)
    one_by_one = [store.page(limit=1, offset=offset).tasks[0] for offset in range(5)]
    assert one_by_one == tasks[::-1]


def test_page_filters_and_counts_what_matches(
    store: TaskStore, new_task: NewTask, bring_to: BringTo
) -> None:
    done = new_task(strategy="threading", kernel="python")
    bring_to(done, TaskStatus.COMPLETED)
    waiting = new_task(strategy="threading", kernel="cython")
    bring_to(waiting, TaskStatus.PENDING)
    other = new_task(strategy="hybrid", kernel="python")
    bring_to(other, TaskStatus.COMPLETED)

    def ids(*filters: str | None) -> list[str]:
        status, strategy, kernel = filters
        page = store.page(
            None if status is None else TaskStatus(status), strategy, kernel, limit=10
        )
        assert page.total == len(page.tasks)
        return [task.task_id for task in page.tasks]

    assert ids(None, None, None) == [done.task_id, waiting.task_id, other.task_id]
    assert ids("completed", None, None) == [done.task_id, other.task_id]
    assert ids(None, "threading", None) == [done.task_id, waiting.task_id]
    assert ids(None, None, "python") == [done.task_id, other.task_id]
    assert ids("completed", "threading", "python") == [done.task_id]
    assert ids("failed", None, None) == []
    assert ids(None, "' OR 1=1", None) == []
    assert store.page(TaskStatus.COMPLETED, limit=1).total == 2


# --- deleting ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", TaskStatus)
def test_only_finished_tasks_can_be_deleted(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task, bystander = new_task(), new_task()
    bring_to(task, status)
    bring_to(bystander, status)
    if status in FINISHED:
        store.delete(task.task_id)
        assert store.status(task.task_id) is None
    else:
        with pytest.raises(TaskConflictError, match=f"it is {status}; cancel it first"):
            store.delete(task.task_id)
        assert store.status(task.task_id) is status
    assert store.status(bystander.task_id) is status


def test_delete_finished_leaves_the_others(
    store: TaskStore, new_task: NewTask, bring_to: BringTo
) -> None:
    tasks = {status: [new_task(), new_task()] for status in TaskStatus}
    for status, some in tasks.items():
        for task in some:
            bring_to(task, status)
    finished = {task.task_id for status in FINISHED for task in tasks[status]}
    deleted = store.delete_finished()
    assert len(deleted) == len(finished)
    assert set(deleted) == finished
    left = {task.status for task in store.page(limit=100).tasks}
    assert left == UNFINISHED
    assert store.delete_finished() == []


def test_delete_finished_of_more_than_fit_a_statement(store: TaskStore, new_task: NewTask) -> None:
    for _ in range(1_201):
        store.create(new_task(status=TaskStatus.COMPLETED))
    assert len(store.delete_finished()) == 1_201
    assert store.page(limit=1).total == 0


# --- orphans -------------------------------------------------------------------------------


def test_only_orphans_are_interrupted(
    store: TaskStore, new_task: NewTask, bring_to: BringTo
) -> None:
    tasks = {
        (status, owner): new_task(owner=owner)
        for status in TaskStatus
        for owner in ("dead:1", "live:1")
    }
    for (status, _), task in tasks.items():
        bring_to(task, status)
    before = {task.task_id: store.get(task.task_id) for task in tasks.values()}

    interrupted = store.interrupt_orphans(lambda owner: owner == "live:1")

    expected = {tasks[status, "dead:1"].task_id: status for status in UNFINISHED}
    assert sorted(interrupted) == sorted(expected)
    for task_id, old in before.items():
        new = store.get(task_id)
        if task_id not in expected:
            assert new == old
            continue
        assert new.end_time is not None
        assert new == replace(
            old,
            status=TaskStatus.FAILED,
            end_time=new.end_time,
            error_code="interrupted",
            error_message=f"the service stopped while the task was {old.status}; finished "
            "items are kept. Send a request for the rest.",
        )
    assert store.interrupt_orphans(lambda owner: owner == "live:1") == []


def test_orphan_that_has_moved_on_meanwhile_is_left(store: TaskStore, new_task: NewTask) -> None:
    taken, ended, orphan = new_task(), new_task(), new_task(owner="3:3.0")
    for task in (taken, ended, orphan):
        store.create(task)

    def is_alive(owner: str) -> bool:
        if owner == "3:3.0":  # the last that is asked for
            begin(store, taken.task_id, node="2:2.0")
            store.shards.cancel(ended.task_id, summary)
        return False

    assert store.interrupt_orphans(is_alive) == [orphan.task_id]
    assert store.get(taken.task_id).status is TaskStatus.RUNNING
    assert store.get(ended.task_id).status is TaskStatus.CANCELLED
