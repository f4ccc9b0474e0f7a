"""Results in the store: added with the progress, kept with the task; damage is found and named."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select, update

from hotloop.app.database.engine import reading, writing
from hotloop.app.errors import StoreError, TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import join, pack
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.results import ResultsReader
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.tables import results, tasks
from tests.fixtures.executions import Execution, begin, end
from tests.fixtures.results import COLUMNS, add, chunk_count, ids, opened

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]

Running = Callable[[int], str]


def test_results_and_progress_are_stored_together(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(100)
    add(store, task_id, result(10, 5, failed=(12,)), result(15, 5), result(40, 1))
    task = store.get(task_id)
    assert (task.items_processed, task.failed_items) == (11, 1)
    assert ids(list(opened(store, task_id).blocks())) == [*range(10, 20), 40]
    assert chunk_count(store) == 2


def test_unstored_results_leave_the_progress_unchanged(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(100)
    add(store, task_id, result(0, 10))
    with pytest.raises(ValueError, match=r"of the items at 5 … 14, 5 are stored already"):
        add(store, task_id, result(50, 1), result(5, 10))
    assert store.get(task_id).items_processed == 10
    assert ids(list(opened(store, task_id).blocks())) == list(range(10))


@pytest.mark.parametrize(("start", "count"), [(-1, 2), (9, 2), (10, 1), (0, 11)])
def test_items_that_the_task_does_not_have_are_refused(
    store: TaskStore, running: Running, result: NewResult, start: int, count: int
) -> None:
    task_id = running(10)
    with pytest.raises(ValueError, match="of 10 from 0 on"):
        add(store, task_id, result(start, count))
    assert store.get(task_id).items_processed == 0
    assert chunk_count(store) == 0


def test_same_results_again_change_nothing(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(100)
    add(store, task_id, result(0, 10), result(10, 10))
    other = replace(result(0, 20), columns={"loop": np.ones(20), "nested": np.ones(20, np.int64)})
    add(store, task_id, other)
    add(store, task_id, result(10, 10), result(0, 5), result(22, 1))
    add(store, task_id, result(20, 2))
    rows = join(list(opened(store, task_id).blocks()))
    np.testing.assert_array_equal(rows.item_ids, np.arange(23))
    np.testing.assert_array_equal(rows.columns["loop"], np.arange(23) / 2)
    assert chunk_count(store) == 3


def test_replaced_execution_writes_nothing(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    """A frozen process comes back after another process has continued its task."""
    task_id = running(100)
    add(store, task_id, result(0, 10))
    later = begin(store, task_id, node="2:2.0")
    assert later.shard.attempt == 2
    before = store.get(task_id)
    words = "it has been taken over by a later execution"
    with pytest.raises(TaskConflictError, match=words):
        add(store, task_id, result(10, 10))
    with pytest.raises(TaskConflictError, match=words):
        Execution(store, replace(later.shard, attempt=1)).end(TaskStatus.FAILED)
    assert store.get(task_id) == before
    assert ids(list(opened(store, task_id).blocks())) == list(range(10))
    later.add(result(10, 10))
    later.end()
    assert store.get(task_id).items_processed == 20
    assert len(ids(list(opened(store, task_id).blocks()))) == 20


def test_columns_stay_those_of_the_first_execution(store: TaskStore, running: Running) -> None:
    """Results of a workload's older version are read as they are, and not gone on with."""
    task_id = running(2)
    old = [["sum", "uint16"]]
    with writing(store.engine) as connection:
        connection.execute(update(tasks).values(result_columns=old))
    assert opened(store, task_id).columns == (("sum", "uint16"),)
    with pytest.raises(TaskConflictError, match="its workload's columns have changed"):
        begin(store, task_id, node="2:2.0")
    assert [shard.attempt for shard in store.shards.of_task(task_id)] == [1]


def test_task_that_never_ran_has_no_results(store: TaskStore, new_task: NewTask) -> None:
    task = new_task()
    store.create(task)
    assert store.results(task.task_id) is None


@pytest.mark.parametrize("way", ["delete", "delete_finished"])
def test_results_go_with_their_task(
    store: TaskStore, running: Running, result: NewResult, way: str
) -> None:
    gone, kept = running(10), running(10)
    for task_id in (gone, kept):
        add(store, task_id, result(0, 10))
    end(store, gone)
    if way == "delete":
        store.delete(gone)
    else:
        assert store.delete_finished() == [gone]
    with reading(store.engine) as connection:
        assert set(connection.scalars(select(results.c.task_id))) == {kept}


def test_results_of_unfinished_tasks_stay(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(10)
    add(store, task_id, result(0, 10))
    with pytest.raises(TaskConflictError):
        store.delete(task_id)
    with pytest.raises(TaskConflictError):
        store.withdraw(task_id)
    assert store.delete_finished() == []
    assert chunk_count(store) == 1


def test_many_writers_each_store_their_own(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_ids = [running(400) for _ in range(6)]

    def write(task_id: str) -> None:
        for start in range(0, 400, 40):
            add(store, task_id, result(start, 40))
            assert len(ids(list(opened(store, task_id).blocks()))) == start + 40

    with ThreadPoolExecutor(len(task_ids)) as pool:
        list(pool.map(write, task_ids))
    for task_id in task_ids:
        assert ids(list(opened(store, task_id).blocks())) == list(range(400))


@pytest.fixture
def damaged(store: TaskStore, running: Running, result: NewResult) -> Callable[..., ResultsReader]:
    """Changes the second of three chunks, and opens the results."""

    def make(**changes: Any) -> ResultsReader:
        task_id = running(1_000)
        for start in (0, 200, 400):
            add(store, task_id, result(start, 100))
        with writing(store.engine) as connection:
            second = (results.c.task_id == task_id) & (results.c.start == 200)
            rows = connection.scalar(select(results.c.rows).where(second))
            assert rows is not None
            if "flip" in changes:
                flipped = bytearray(rows)
                flipped[changes["flip"]] ^= 4
                changes = {"rows": bytes(flipped)}
            connection.execute(update(results).where(second).values(**changes))
        return opened(store, task_id)

    return make


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": 0},
        {"flip": 1_000},
        {"flip": 2_499},
        {"crc32": 1},
        {"count": 99},
        {"count": 101},
        {"count": -1},
        {"failed": 1},
        {"rows": b""},
        {"start": 150},
        {"start": 50},
    ],
    ids=str,
)
def test_damaged_results_are_named(
    damaged: Callable[..., ResultsReader], store: TaskStore, changes: dict[str, Any]
) -> None:
    reader = damaged(**changes)
    with pytest.raises(StoreError, match=r"the results of task task_\w+ are damaged: ") as caught:
        list(reader.blocks())
    assert "Delete the task, and ask for it again." in str(caught.value)


def test_repeated_items_are_damage(store: TaskStore, running: Running, result: NewResult) -> None:
    task_id = running(200)
    add(store, task_id, result(0, 100))
    (chunk,) = pack([result(50, 100)], COLUMNS)
    with writing(store.engine) as connection:
        connection.execute(insert(results).values(task_id=task_id, **asdict(chunk)))
    with pytest.raises(StoreError, match="are damaged: some items are there twice"):
        list(opened(store, task_id).blocks())


def test_results_before_the_damage_are_read(damaged: Callable[..., ResultsReader]) -> None:
    reader = damaged(flip=5)
    assert ids(list(reader.blocks(0, 200))) == list(range(100))
    assert ids(list(reader.blocks(400))) == list(range(400, 500))
    with pytest.raises(StoreError, match="of the items from 200 on, its checksum is wrong"):
        list(reader.blocks(250, 1))


@pytest.mark.parametrize(
    "columns", ["x", {"loop": 1}, [["loop"]], [["loop", "object"]], [["loop", "nonsense"]], 5]
)
def test_unknown_columns_are_damage(store: TaskStore, running: Running, columns: Any) -> None:
    task_id = running(1)
    with writing(store.engine) as connection:
        connection.execute(update(tasks).values(result_columns=columns))
    with pytest.raises(StoreError, match="are damaged: their columns are unknown"):
        store.results(task_id)
