"""Tasks that are over when they are stored: many in one transaction, and each by its own fate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from hotloop.app.database.statements import MOST_ROWS
from hotloop.app.errors import StoreError, TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import pack, pack_all
from hotloop.app.tasks.model import Shard, Task, utc_now
from hotloop.app.tasks.recording import FinishedTask, Recorder
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.results import COLUMNS, ids, opened

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]
Finish = Callable[[Recorder], FinishedTask]

MEASURED = {"checksum": "0", "errors": [{"reason": '\u2026 "quoted"'}]}
BEGUN = utc_now()


@pytest.fixture
def finish(new_task: NewTask, result: NewResult) -> Finish:
    """Make a task of three items that is over; one of them has failed."""
    like = replace(new_task(), task_id="", task_type=TaskType.SYNCHRONOUS, item_bytes=25)

    def make(recorder: Recorder) -> FinishedTask:
        of = result(0, 3, failed=(1,))
        chunk = pack_all(of.item_ids, of.columns, of.failed, COLUMNS)
        template = recorder.template(like, COLUMNS)
        return recorder.finished(template, BEGUN, utc_now(), "key:a", chunk, MEASURED)

    return make


def test_finished_tasks_are_stored_as_they_are(store: TaskStore, finish: Finish) -> None:
    recorder = Recorder(store.engine)
    group = [finish(recorder) for _ in range(MOST_ROWS + 7)]
    assert recorder.store(group) == [None] * len(group)
    for each in group:
        task, (shard,) = store.with_shards(each.task_id)
        assert (task.status, task.client, task.measurements) == ("completed", "key:a", MEASURED)
        assert (task.total_items, task.items_processed, task.failed_items) == (3, 3, 1)
        assert (task.created_at, task.start_time, task.stored_bytes) == (BEGUN, BEGUN, 75)
        assert task.end_time is not None
        assert task.end_time >= BEGUN
        assert shard == Shard(
            task_id=each.task_id,
            shard=0,
            start=0,
            count=3,
            status=TaskStatus.COMPLETED,
            attempt=1,
            node=task.owner,
            items_processed=3,
            failed_items=1,
            details=MEASURED,
        )
        (block,) = opened(store, task.task_id).blocks()
        assert ids([block]) == [0, 1, 2]
        assert block.failed.tolist() == [False, True, False]
    assert store.page(limit=1).total == len(group)


def test_results_of_a_small_task_are_packed_as_those_of_a_batch(result: NewResult) -> None:
    of = result(0, 3, failed=(1,))
    assert [pack_all(of.item_ids, of.columns, of.failed, COLUMNS)] == pack([of], COLUMNS)


def test_results_of_other_types_are_refused(result: NewResult) -> None:
    of = result(0, 3)
    name = COLUMNS[0][0]
    wrong = of.columns | {name: np.zeros(3, dtype=np.float32)}
    with pytest.raises(ValueError, match=name):
        pack_all(of.item_ids, wrong, of.failed, COLUMNS)
    short = of.columns | {name: of.columns[name][:2]}
    with pytest.raises(ValueError, match=name):
        pack_all(of.item_ids, short, of.failed, COLUMNS)


def test_task_whose_id_is_taken_keeps_no_other_from_being_stored(
    store: TaskStore, finish: Finish
) -> None:
    recorder = Recorder(store.engine)
    taken, others = finish(recorder), [finish(recorder) for _ in range(3)]
    assert recorder.store([taken]) == [None]
    first, refused, *rest = recorder.store([others[0], taken, *others[1:]])
    assert isinstance(refused, TaskConflictError)
    assert (first, rest) == (None, [None, None])
    assert all(store.status(each.task_id) is TaskStatus.COMPLETED for each in others)
    assert store.page(limit=1).total == 4


def test_every_task_gets_the_reason_why_none_is_stored(
    impatient: TaskStore, finish: Finish
) -> None:
    recorder = Recorder(impatient.engine)
    with impatient.engine.connect() as holding:
        holding.exec_driver_sql("COMMIT")
        holding.exec_driver_sql("BEGIN IMMEDIATE")
        reasons = recorder.store([finish(recorder), finish(recorder)])
        holding.exec_driver_sql("ROLLBACK")
    assert [type(reason) for reason in reasons] == [reasons[0].__class__] * 2
    assert isinstance(reasons[0], StoreError)
