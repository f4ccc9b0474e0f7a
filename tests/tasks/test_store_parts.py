"""Kinds of tasks, and those that only serve another one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hotloop.app.names import TaskKind, TaskStatus, TaskType
from hotloop.app.tasks.model import PART, Task
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import begin

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
def test_part_is_removed_whatever_its_state(
    store: TaskStore, new_task: NewTask, has_begun: bool
) -> None:
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
