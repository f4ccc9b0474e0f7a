"""database.sqlite: the store's space on a disk, and a disk that is full."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from hotloop.app.database.engine import FILE_NAME
from hotloop.app.database.sqlite import RESERVE_BYTES
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore, open_store
from tests.fixtures.executions import Execution, begin, end
from tests.fixtures.refusals import refused

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]


def kept_bytes(folder: Path) -> int:
    """Return the bytes of the store's file and its log."""
    return sum((folder / f"{FILE_NAME}{suffix}").stat().st_size for suffix in ("", "-wal"))


@pytest.fixture
def location(tmp_path: Path) -> Path:
    """SQLite only: what a server does with its disk is its own affair."""
    return tmp_path


@pytest.fixture
def filled(store: TaskStore, new_task: NewTask, result: NewResult) -> Callable[[int], str]:
    """Makes a running task of so many items and stores all results, 100,000 in a message."""

    def fill(count: int) -> str:
        task = new_task()
        store.create(task)
        execution = begin(store, task.task_id, total_items=count)
        for start in range(0, count, 100_000):
            execution.add(result(start, min(100_000, count - start)))
        return task.task_id

    return fill


def test_file_shrinks_when_tasks_are_deleted(
    tmp_path: Path, store: TaskStore, filled: Callable[[int], str]
) -> None:
    size = 25 * 1_000_000
    gone, kept = filled(1_000_000), filled(100_000)
    assert kept_bytes(tmp_path) > size
    end(store, gone)
    store.delete(gone)
    assert (tmp_path / FILE_NAME).stat().st_size < size / 5
    reader = store.results(kept)
    assert reader is not None
    assert sum(map(len, reader.blocks())) == 100_000


def test_deletion_does_not_fail_when_the_file_cannot_shrink(
    tmp_path: Path, impatient: TaskStore, filled: Callable[[int], str]
) -> None:
    """The next one gives the space back: another writer was in the way."""
    first, second = filled(1_000_000), filled(10)
    for task_id in (first, second):
        end(impatient, task_id)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:

        def lock(*_: object) -> None:
            other.execute("BEGIN IMMEDIATE")

        event.listen(impatient.engine, "checkin", lock)  # after the deletion
        impatient.delete(first)
        event.remove(impatient.engine, "checkin", lock)
        other.execute("ROLLBACK")
    assert impatient.status(first) is None
    assert (tmp_path / FILE_NAME).stat().st_size > 8_000_000
    impatient.delete(second)
    assert (tmp_path / FILE_NAME).stat().st_size < 1_000_000


def test_full_disk_refuses_a_message_and_keeps_stored_results(
    tmp_path: Path, store: TaskStore, new_task: NewTask, result: NewResult
) -> None:
    task = new_task()
    store.create(task)
    execution = begin(store, task.task_id, total_items=1_000_000)
    execution.add(result(0, 10_000))

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 300")

    event.listen(store.engine, "checkout", limit)
    large = result(10_000, 200_000)
    text = refused(lambda: execution.add(large), tmp_path)
    assert text == (
        f"the task store {FILE_NAME}: the disk is full; free some space, or delete finished tasks"
    )
    assert store.get(task.task_id).items_processed == 10_000
    reader = store.results(task.task_id)
    assert reader is not None
    assert sum(map(len, reader.blocks())) == 10_000
    execution.end(TaskStatus.FAILED, error_message=text)
    assert store.get(task.task_id).error_message == text


RESERVE = f"{FILE_NAME}-reserve"


def test_reserve_is_given_up_on_a_full_disk_and_taken_again_after_a_deletion(
    tmp_path: Path, store: TaskStore, filled: Callable[[int], str]
) -> None:
    reserve = tmp_path / RESERVE
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    task_id = filled(10)
    execution = Execution(store, *store.shards.of_task(task_id))

    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorname = "SQLITE_FULL"
        raise DBAPIError.instance("", (), error, sqlite3.Error)

    event.listen(store.engine, "commit", full)
    text = refused(execution.add, tmp_path)
    event.remove(store.engine, "commit", full)
    assert "the disk is full" in text
    assert not reserve.exists()
    end(store, task_id, TaskStatus.FAILED)
    store.delete(task_id)
    assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES


def test_locked_file_costs_no_reserve(
    tmp_path: Path, impatient: TaskStore, new_task: NewTask
) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "locked" in refused(lambda: impatient.create(new_task()), tmp_path)
    assert (tmp_path / RESERVE).exists()


def test_disk_without_room_for_the_reserve_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_task: NewTask
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    store = open_store(tmp_path)
    store.create(new_task())
    store.close()
    assert not (tmp_path / RESERVE).exists()


FULL_DISK = """
import resource, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from hotloop.app.errors import StoreError
from hotloop.app.tasks.model import Task, new_task_id
from hotloop.app.tasks.store import open_store

store = open_store(Path(sys.argv[1]))
kept = Task(
    task_id=new_task_id(), task_type="synchronous", spec={}, workload="loops", kernel="numba",
    strategy="hybrid", total_items=1, created_at=datetime.now(UTC), owner="1:1.0",
)
store.create(kept)
large = replace(kept, task_id=new_task_id(), spec={"text": "x" * 1_000_000})
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    store.create(large)
except StoreError as error:
    print(error)
assert store.status(large.task_id) is None
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.create(large)
assert [task.task_id for task in store.page(limit=9).tasks] == sorted(
    [large.task_id, kept.task_id], reverse=True
)
store.close()
"""


def test_full_disk_is_a_store_error_and_passes(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    (words,) = answer.stderr.splitlines()  # the log, and no warning
    assert words.startswith(f"the database of the task store {FILE_NAME} says: SQLITE_")
    assert answer.stdout.startswith(f"the task store {FILE_NAME}: the disk ")
    assert "full" in answer.stdout
