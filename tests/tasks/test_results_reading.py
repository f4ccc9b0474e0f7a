"""tasks.results: results are read by range."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from hotloop.app.database.engine import writing
from hotloop.app.errors import TaskConflictError
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks import results as results_module
from hotloop.app.tasks.chunks import CHUNK_ROWS, ResultRows
from hotloop.app.tasks.model import FINISHED, Task
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import tasks
from tests.fixtures.results import COLUMNS, add, chunk_count, ids, opened

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]

Running = Callable[[int], str]


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


def test_task_without_results_has_no_rows(store: TaskStore, running: Running) -> None:
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
    """Batches of one row come out of order, never adjacent in a message, so all are chunks."""
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


def test_reader_holds_no_connection_between_blocks(
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


@pytest.mark.long
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
