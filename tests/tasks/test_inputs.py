"""Inputs of tasks in the database: stored whole, fetched whole, and told from others."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from hotloop.app.errors import DamagedFileError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.engine import writing
from hotloop.app.tasks.folder import PART_BYTES
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.tables import inputs
from tests.fixtures.executions import begin

CONTENT = os.urandom(2 * PART_BYTES + 12_345)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def task_id(store: TaskStore, new_task: Callable[..., Task], tmp_path: Path) -> str:
    """A task whose input is stored."""
    task = new_task(task_type="background")
    store.create(task)
    source = tmp_path / "source"
    source.write_bytes(CONTENT)
    assert store.inputs.save(task.task_id, source) == DIGEST
    return task.task_id


def test_what_was_stored_is_fetched(store: TaskStore, task_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert store.inputs.fetch(task_id, folder / "items", DIGEST)
    assert (folder / "items").read_bytes() == CONTENT
    assert not store.inputs.fetch("task_ffffffff_1700000000", folder / "none", None)
    assert [path.name for path in folder.iterdir()] == ["items"]


def test_fetches_side_by_side_do_not_meet(store: TaskStore, task_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path, barrier = folder / "items", threading.Barrier(4)

    def fetch() -> None:
        barrier.wait()
        for _ in range(5):
            assert store.inputs.fetch(task_id, path, None)
            assert path.read_bytes() == CONTENT

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(fetch) for _ in range(4)]:
            future.result()
    assert list(folder.iterdir()) == [path]


def test_input_that_changed_in_the_database_is_not_fetched(
    store: TaskStore, task_id: str, tmp_path: Path
) -> None:
    with writing(store.engine) as connection:
        changed = update(inputs).where(inputs.c.part == 1)
        connection.execute(changed.values(data=bytes(PART_BYTES)))
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DamagedFileError, match="not as they were stored"):
        store.inputs.fetch(task_id, folder / "items", DIGEST)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_input_goes_with_the_end_of_a_task_that_cannot_be_resumed(
    store: TaskStore, task_id: str, tmp_path: Path, status: TaskStatus
) -> None:
    begin(store, task_id).end(status)
    is_kept = status is not TaskStatus.COMPLETED
    assert store.inputs.fetch(task_id, tmp_path / "items", DIGEST) is is_kept
