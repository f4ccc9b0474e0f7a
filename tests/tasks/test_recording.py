"""Tasks that are over when they are stored: many in one transaction, and each by its own fate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError

from hotloop.app.errors import StoreError, TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import pack
from hotloop.app.tasks.model import Shard, Task, new_task_id, utc_now
from hotloop.app.tasks.recording import FinishedTask, store_each, store_finished
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.results import COLUMNS, ids, opened

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]
Finish = Callable[[], FinishedTask]


@pytest.fixture
def finish(new_task: NewTask, result: NewResult) -> Finish:
    """Make a task of three items that is over; one of them has failed."""

    def make() -> FinishedTask:
        task = replace(
            new_task(),
            task_id=new_task_id(),
            task_type=TaskType.SYNCHRONOUS,
            status=TaskStatus.COMPLETED,
            total_items=3,
            items_processed=3,
            failed_items=1,
            start_time=utc_now(),
            end_time=utc_now(),
            measurements={"checksum": "0"},
        )
        shard = Shard(
            task_id=task.task_id,
            shard=0,
            start=0,
            count=3,
            status=TaskStatus.COMPLETED,
            attempt=1,
            items_processed=3,
            failed_items=1,
        )
        return FinishedTask(task, shard, COLUMNS, pack([result(0, 3, failed=(1,))], COLUMNS))

    return make


def test_finished_tasks_are_stored_as_they_are(store: TaskStore, finish: Finish) -> None:
    group = [finish() for _ in range(40)]
    store_finished(store.engine, group)
    for each in group:
        task, (shard,) = store.with_shards(each.task.task_id)
        assert task == each.task
        assert shard == each.shard
        (block,) = opened(store, task.task_id).blocks()
        assert ids([block]) == [0, 1, 2]
        assert block.failed.tolist() == [False, True, False]
    assert store.page(limit=1).total == 40


def test_group_is_stored_as_a_whole_or_not_at_all(store: TaskStore, finish: Finish) -> None:
    first, second = finish(), finish()
    store_finished(store.engine, [first])
    with pytest.raises(IntegrityError):
        store_finished(store.engine, [second, first])
    assert store.status(second.task.task_id) is None


def test_task_whose_id_is_taken_keeps_no_other_from_being_stored(
    store: TaskStore, finish: Finish
) -> None:
    taken, others = finish(), [finish() for _ in range(3)]
    store_finished(store.engine, [taken])
    first, refused, *rest = store_each(store.engine, [others[0], taken, *others[1:]])
    assert isinstance(refused, TaskConflictError)
    assert (first, rest) == (None, [None, None])
    assert all(store.status(each.task.task_id) is TaskStatus.COMPLETED for each in others)


def test_every_task_gets_the_reason_why_none_is_stored(
    impatient: TaskStore, finish: Finish
) -> None:
    with impatient.engine.connect() as holding:
        holding.exec_driver_sql("COMMIT")
        holding.exec_driver_sql("BEGIN IMMEDIATE")
        reasons = store_each(impatient.engine, [finish(), finish()])
        holding.exec_driver_sql("ROLLBACK")
    assert [type(reason) for reason in reasons] == [reasons[0].__class__] * 2
    assert isinstance(reasons[0], StoreError)
