"""Trying failed items again, in both databases: only their rows go, all else stays as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks import retry
from hotloop.app.tasks.claims import claim
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.retry import retry_failed
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import Execution
from tests.fixtures.results import ids, opened

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]


def completed(store: TaskStore, new_task: NewTask, *batches: BatchResult, shards: int = 1) -> Task:
    """A completed background task with the results of these batches, half of them a shard."""
    total = sum(batch.batch.count for batch in batches)
    task = replace(new_task(), task_type=TaskType.BACKGROUND, total_items=total, item_bytes=25)
    store.create(task, [total // shards] * shards)
    for number in range(shards):
        found = claim(store.engine, "here:1")
        assert found is not None
        execution = Execution(store, found.shard)
        size = len(batches) // shards
        execution.add(*batches[number * size : (number + 1) * size])
        execution.end()
    assert store.status(task.task_id) is TaskStatus.COMPLETED
    return task


def test_failed_items_alone_are_missing_again(
    store: TaskStore, new_task: NewTask, result: NewResult
) -> None:
    task = completed(store, new_task, result(0, 5, failed=(0, 3)), result(5, 5, failed=(9,)))
    before = {
        int(i): block.columns["loop"][n].tobytes()
        for block in opened(store, task.task_id).blocks()
        for n, i in enumerate(block.item_ids)
    }
    (ref,) = retry_failed(store.engine, task.task_id)
    again, (shard,) = store.with_shards(task.task_id)
    assert (again.status, again.items_processed, again.failed_items) == ("pending", 7, 0)
    assert (again.end_time, shard.generation, shard.ref) == (None, 1, ref)
    assert (shard.status, shard.items_processed, shard.failed_items) == ("pending", 7, 0)
    left = list(opened(store, task.task_id).blocks())
    assert ids(left) == [1, 2, 4, 5, 6, 7, 8]
    assert not any(block.failed.any() for block in left)
    for block in left:
        for n, i in enumerate(block.item_ids):
            assert block.columns["loop"][n].tobytes() == before[int(i)]
    found = claim(store.engine, "here:2")
    assert found is not None
    assert store.shards.missing(found.shard.ref) == [(0, 1), (3, 1), (9, 1)]
    execution = Execution(store, found.shard)
    execution.add(result(0, 1), result(3, 1), result(9, 1))
    assert execution.end() is TaskStatus.COMPLETED
    assert ids(list(opened(store, task.task_id).blocks())) == list(range(10))
    assert store.get(task.task_id).items_processed == 10


def test_only_shards_with_failed_items_are_executed(
    store: TaskStore, new_task: NewTask, result: NewResult
) -> None:
    task = completed(store, new_task, result(0, 5), result(5, 5, failed=(6,)), shards=2)
    (ref,) = retry_failed(store.engine, task.task_id)
    assert ref.shard == 1
    states = [shard.status for shard in store.shards.of_task(task.task_id)]
    assert states == [TaskStatus.COMPLETED, TaskStatus.PENDING]


def test_chunk_of_failed_items_only_goes_as_a_whole(
    store: TaskStore, new_task: NewTask, result: NewResult
) -> None:
    task = completed(store, new_task, result(0, 4, failed=(0, 1, 2, 3)))
    retry_failed(store.engine, task.task_id)
    assert list(opened(store, task.task_id).blocks()) == []


@pytest.mark.parametrize("status", ["pending", "running", "failed", "cancelled"])
def test_task_in_another_state_is_refused(
    store: TaskStore,
    new_task: NewTask,
    bring_to: Callable[[Task, TaskStatus], object],
    status: str,
) -> None:
    task = replace(new_task(), task_type=TaskType.BACKGROUND)
    bring_to(task, TaskStatus(status))
    with pytest.raises(TaskConflictError, match=f"it is {status}; only a completed"):
        retry_failed(store.engine, task.task_id)


def test_task_without_failed_items_and_others_are_refused(
    store: TaskStore, new_task: NewTask, result: NewResult
) -> None:
    task = completed(store, new_task, result(0, 4))
    with pytest.raises(TaskConflictError, match="none of its items has failed"):
        retry_failed(store.engine, task.task_id)
    with pytest.raises(TaskNotFoundError):
        retry_failed(store.engine, "task_00000000_1")


def test_failed_items_in_too_many_places_are_refused_and_stay(
    store: TaskStore, new_task: NewTask, result: NewResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "MOST_PIECES", 2)
    task = completed(store, new_task, result(0, 8, failed=(1, 3, 5)))
    with pytest.raises(TaskConflictError, match="too scattered"):
        retry_failed(store.engine, task.task_id)
    assert store.status(task.task_id) is TaskStatus.COMPLETED
    (block,) = opened(store, task.task_id).blocks()
    assert np.count_nonzero(block.failed) == 3
