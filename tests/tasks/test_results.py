"""Results in the store: added with the progress, read by range."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from app.errors import TaskConflictError
from app.names import TaskStatus
from app.strategies.base import BatchResult
from app.tasks import results as results_module
from app.tasks.chunks import CHUNK_ROWS, ResultRows, join
from app.tasks.engine import reading, writing
from app.tasks.model import FINISHED, ShardRef, Task
from app.tasks.store import TaskStore, open_store
from app.tasks.tables import results, tasks
from tests.fixtures.executions import Execution, begin, end
from tests.fixtures.results import COLUMNS, add, ids, opened

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]

Running = Callable[[int], str]


def chunk_count(store: TaskStore) -> int:
    with reading(store.engine) as connection:
        return connection.scalar(select(func.count()).select_from(results)) or 0


# --- adding --------------------------------------------------------------------------------


def test_results_and_progress_are_stored_together(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(100)
    add(store, task_id, result(10, 5, failed=(12,)), result(15, 5), result(40, 1))
    task = store.get(task_id)
    assert (task.items_processed, task.failed_items) == (11, 1)
    assert ids(list(opened(store, task_id).blocks())) == [*range(10, 20), 40]
    assert chunk_count(store) == 2


def test_results_that_cannot_be_stored_leave_the_progress_as_it_was(
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


def test_execution_that_was_taken_over_writes_nothing(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    """As when a frozen process comes back after another one has gone on with its task."""
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
    with pytest.raises(TaskConflictError, match="its workload has other columns now"):
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
        assert store.delete_finished() == [ShardRef(gone, 0, 0)]
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


# --- reading -------------------------------------------------------------------------------


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(data=st.data())
def test_any_order_of_batches_gives_the_same_rows(
    store: TaskStore, running: Running, result: NewResult, data: st.DataObject
) -> None:
    """Batches of any sizes, some missing, shuffled, in messages of any size, then read by range."""
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=12))
    starts = np.cumsum([0, *sizes]).tolist()
    total = starts.pop()
    present = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    batches = [result(a, n) for a, n, there in zip(starts, sizes, present, strict=True) if there]
    expected = ids([ResultRows(b.item_ids, b.columns, b.failed) for b in batches])
    task_id = running(total)
    shuffled = data.draw(st.permutations(batches))
    while shuffled:
        length = data.draw(st.integers(1, len(shuffled)))
        add(store, task_id, *shuffled[:length])
        shuffled = shuffled[length:]
    offset = data.draw(st.integers(0, total + 5))
    limit = data.draw(st.none() | st.integers(1, total + 5))
    end = total if limit is None else offset + limit
    reader = opened(store, task_id)
    blocks = list(reader.blocks(offset, limit))
    assert all(len(block) for block in blocks)
    assert ids(blocks) == [item_id for item_id in expected if offset <= item_id < end]
    assert reader.end() == (expected[-1] + 1 if expected else 0)
    for block in blocks:
        np.testing.assert_array_equal(block.columns["nested"], -block.item_ids)


def test_nothing_processed_is_nothing_to_read(store: TaskStore, running: Running) -> None:
    reader = opened(store, running(100))
    assert reader.columns == COLUMNS
    assert list(reader.blocks()) == []
    assert reader.head(5) == []
    assert reader.end() == 0


def test_all_failed(store: TaskStore, running: Running, result: NewResult) -> None:
    task_id = running(3)
    add(store, task_id, result(0, 3, failed=(0, 1, 2)))
    (block,) = opened(store, task_id).blocks()
    assert block.failed.tolist() == [True] * 3
    assert store.get(task_id).failed_items == 3


@pytest.mark.parametrize(
    ("offset", "limit"),
    [
        (0, None),
        (0, 1),
        (CHUNK_ROWS - 1, 2),
        (CHUNK_ROWS, 1),
        (7, 2 * CHUNK_ROWS),
        (2 * CHUNK_ROWS + 9, 1),
        (2 * CHUNK_ROWS + 10, None),
        (2**53, 10_000_000),
    ],
)
def test_ranges_of_a_huge_batch(
    store: TaskStore, running: Running, result: NewResult, offset: int, limit: int | None
) -> None:
    total = 2 * CHUNK_ROWS + 10
    task_id = running(total)
    add(store, task_id, result(0, total))
    assert chunk_count(store) == 3
    blocks = list(opened(store, task_id).blocks(offset, limit))
    assert all(0 < len(block) <= CHUNK_ROWS for block in blocks)
    end = total if limit is None else min(total, offset + limit)
    assert ids(blocks) == list(range(offset, end))


def test_small_chunks_are_read_together(
    store: TaskStore, running: Running, result: NewResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One-row batches out of order: no two adjacent ones in a message, so all are chunks."""
    task_id = running(60)
    for first in (1, 0):
        add(store, task_id, *(result(start, 1) for start in range(first, 60, 2)))
    assert chunk_count(store) == 60
    reader = opened(store, task_id)
    assert [len(block) for block in reader.blocks()] == [60]
    monkeypatch.setattr(results_module, "CHUNK_ROWS", 25)
    assert [len(block) for block in reader.blocks()] == [25, 25, 10]
    monkeypatch.setattr(results_module, "_CHUNKS_PER_READ", 7)
    assert [len(block) for block in reader.blocks(4)] == [7] * 8
    assert ids(list(reader.blocks())) == list(range(60))


def test_head_is_the_first_processed_rows_as_plain_numbers(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(10_000)
    add(store, task_id, result(2_560, 2_560, failed=(3_000,)))
    reader = opened(store, task_id)
    assert reader.head(2) == [
        {"item_id": 2_560, "loop": 1_280.0, "nested": -2_560},
        {"item_id": 2_561, "loop": 1_280.5, "nested": -2_561},
    ]
    for row in reader.head(2):
        assert [type(value) for value in row.values()] == [int, float, int]
    assert reader.head(441)[-1] == {"item_id": 3_000, "loop": None, "nested": None}
    assert len(reader.head(10_000)) == 2_560
    assert reader.head(0) == []


def test_reader_sees_what_is_stored_meanwhile(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(4)
    reader = opened(store, task_id)
    add(store, task_id, result(2, 2))
    assert ids(list(reader.blocks())) == [2, 3]
    add(store, task_id, result(0, 2))
    assert ids(list(reader.blocks())) == [0, 1, 2, 3]


def test_nothing_is_held_between_two_blocks(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    """A slow reader has no transaction open, and one whose task is deleted comes to its end."""
    task_id = running(3 * CHUNK_ROWS)
    add(store, task_id, result(0, 3 * CHUNK_ROWS))
    blocks = opened(store, task_id).blocks()
    next(blocks)
    assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    with writing(store.engine) as connection:
        connection.execute(delete(tasks))
    assert list(blocks) == []


def test_memory_is_that_of_a_few_chunks(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    count = 20 * CHUNK_ROWS
    task_id = running(count)
    for start in range(0, count, 2 * CHUNK_ROWS):
        add(store, task_id, result(start, 2 * CHUNK_ROWS))
    reader = opened(store, task_id)
    total = 0
    tracemalloc.start()
    for block in reader.blocks():
        total += len(block)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == count
    assert peak < 5 * 25 * CHUNK_ROWS


def test_results_are_kept_when_the_store_is_opened_again(
    location: Any, store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(10)
    add(store, task_id, result(0, 10))
    other = open_store(location)
    assert ids(list(opened(other, task_id).blocks())) == list(range(10))
    other.interrupt_orphans(lambda owner: False)
    assert store.get(task_id).status in FINISHED
    with pytest.raises(TaskConflictError, match="it is failed; results need a running task"):
        add(store, task_id, result(0, 10))
    other.close()
