"""Results that are damaged: found, named, and what is before them read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from hotloop.app.errors import StoreError
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import pack
from hotloop.app.tasks.engine import writing
from hotloop.app.tasks.results import ResultsReader
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.tables import results, tasks
from tests.fixtures.results import COLUMNS, add, ids, opened

NewResult = Callable[..., BatchResult]
Running = Callable[[int], str]


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


def test_items_that_are_there_twice_are_damage(
    store: TaskStore, running: Running, result: NewResult
) -> None:
    task_id = running(200)
    add(store, task_id, result(0, 100))
    (chunk,) = pack([result(50, 100)], COLUMNS)
    with writing(store.engine) as connection:
        connection.execute(insert(results).values(task_id=task_id, **asdict(chunk)))
    with pytest.raises(StoreError, match="are damaged: some items are there twice"):
        list(opened(store, task_id).blocks())


def test_what_is_before_the_damage_is_read(damaged: Callable[..., ResultsReader]) -> None:
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
