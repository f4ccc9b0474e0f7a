"""The task store in a file, and what may be wrong with that file."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from app.errors import StoreError
from app.names import TaskStatus
from app.strategies.base import BatchResult
from app.tasks.engine import FILE_NAME, writing
from app.tasks.model import Task
from app.tasks.store import TaskStore, open_store
from app.tasks.upkeep import RESERVE_BYTES
from tests.fixtures.executions import Execution, begin, end

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]


@pytest.fixture
def location(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[TaskStore]:
    """A store that waits 50 ms for a lock."""
    opened = open_store(tmp_path, busy_timeout_seconds=0.05)
    yield opened
    opened.close()


def refused(call: Callable[[], object], folder: Path) -> str:
    """The text of the StoreError that `call` raises; fit for a client."""
    with pytest.raises(StoreError) as caught:
        call()
    text = str(caught.value)
    assert str(folder) not in text
    for word in ("SELECT", "INSERT", "UPDATE", "PRAGMA", "sqlalche", "Traceback"):
        assert word not in text
    return text


def test_file_is_in_the_data_folder_with_a_write_ahead_log(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental
        assert connection.execute("PRAGMA page_size").fetchone() == (16_384,)
    with writing(store.engine) as connected:
        assert connected.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
        assert connected.exec_driver_sql("PRAGMA synchronous").scalar() == 1
        assert connected.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connected.exec_driver_sql("PRAGMA secure_delete").scalar() == 0
        assert connected.exec_driver_sql("PRAGMA journal_size_limit").scalar() == 1 << 24
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, f"{FILE_NAME}-reserve"}


def test_store_opens_by_url_and_in_a_folder_of_any_name(tmp_path: Path, new_task: NewTask) -> None:
    folder = tmp_path / "a b?c=d&e%20é@:1"
    folder.mkdir()
    task = new_task()
    by_folder = open_store(folder)
    by_folder.create(task)
    by_folder.close()
    plain = folder.rename(tmp_path / "plain")
    by_url = open_store(f"sqlite:///{plain / FILE_NAME}")
    assert by_url.get(task.task_id) == task
    by_url.close()


def test_many_that_open_a_new_file_at_once_all_succeed(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def open_at_once(folder: Path) -> None:
        barrier.wait()
        open_store(folder).close()

    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            folder = tmp_path / str(number)
            folder.mkdir()
            list(pool.map(open_at_once, [folder] * 8))


class BusyOnce(sqlite3.Connection):
    """Cannot switch to the write-ahead log at the first try, as when another one does it."""

    refusals = 1

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if "journal_mode" in sql and self.refusals:
            self.refusals -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error
        return super().execute(sql, *parameters)


class BusyForEver(BusyOnce):
    refusals = 1 << 30


@pytest.mark.parametrize("factory", [BusyOnce, BusyForEver])
def test_switch_to_the_write_ahead_log_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: type[sqlite3.Connection]
) -> None:
    plain = dbapi2.connect
    monkeypatch.setattr(
        dbapi2, "connect", lambda *args, **kwargs: plain(*args, **{**kwargs, "factory": factory})
    )
    if factory is BusyOnce:
        open_store(tmp_path).close()
    else:
        text = refused(lambda: open_store(tmp_path, busy_timeout_seconds=0.05), tmp_path)
        assert "locked for too long; try again" in text


def test_locked_file_can_be_read_and_refuses_writing_until_it_is_free(
    tmp_path: Path, impatient: TaskStore, new_task: NewTask
) -> None:
    task = new_task()
    impatient.create(task)
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert impatient.get(task.task_id) == task
        text = refused(lambda: begin(impatient, task.task_id), tmp_path)
        assert text == (
            f"the task store {FILE_NAME}: another process has kept it locked for too long; "
            "try again"
        )
        other.execute("ROLLBACK")
        begin(impatient, task.task_id)
    assert impatient.get(task.task_id).status is TaskStatus.RUNNING


def test_writing_waits_for_another_writer(
    tmp_path: Path, store: TaskStore, new_task: NewTask
) -> None:
    task = new_task()
    with (
        closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.execute("BEGIN IMMEDIATE")
        creating = pool.submit(store.create, task)
        assert store.status(task.task_id) is None
        other.execute("COMMIT")
        creating.result(timeout=30)
    assert store.get(task.task_id) == task


@pytest.mark.parametrize("size", [10, 100, 5_000])
def test_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path, size: int) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"x" * size)
    text = refused(lambda: open_store(tmp_path), tmp_path)
    assert text.startswith(f"the task store {FILE_NAME}: it is no SQLite file; put a copy")
    assert (tmp_path / FILE_NAME).read_bytes() == b"x" * size


def test_damaged_file_is_a_store_error(tmp_path: Path, new_task: NewTask) -> None:
    store = open_store(tmp_path)
    for _ in range(50):
        store.create(new_task())
    store.close()
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096 * 4)
    text = refused(lambda: open_store(tmp_path).page(limit=10), tmp_path)
    assert "it is damaged; put a copy in its place" in text


def test_file_of_a_newer_version_is_refused_in_words(tmp_path: Path, new_task: NewTask) -> None:
    store = open_store(tmp_path)
    store.create(new_task())
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("UPDATE hotloop_schema SET version = 4")
        connection.execute("ALTER TABLE tasks RENAME TO jobs")
        connection.commit()
    assert refused(lambda: open_store(tmp_path), tmp_path) == (
        "the task store was made by a newer version of the service (its schema is 4, this one "
        "knows 3); start that version, or use another data folder"
    )
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {name for (name,) in tables} == {"hotloop_schema", "jobs", "results", "shards"}


def test_file_of_an_older_version_is_refused_in_words(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        connection.execute("UPDATE hotloop_schema SET version = 2")
        connection.execute("DROP TABLE shards")
        connection.commit()
    assert refused(lambda: open_store(tmp_path), tmp_path) == (
        "the task store was made by an older version of the service (its schema is 2, this one "
        "needs 3) and cannot be converted; use another data folder, or delete the store with the "
        "tasks in it"
    )
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        assert {name for (name,) in tables} == {"hotloop_schema", "tasks", "results"}


def test_folder_that_is_missing_is_a_store_error(tmp_path: Path) -> None:
    text = refused(lambda: open_store(tmp_path / "gone"), tmp_path)
    assert text.startswith(f"the task store {FILE_NAME}: it cannot be opened; check that the data")


def test_folder_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "it cannot be opened" in refused(lambda: open_store(tmp_path / "file"), tmp_path)


def test_file_that_cannot_be_written_is_a_store_error(tmp_path: Path, new_task: NewTask) -> None:
    task = new_task()
    store = open_store(tmp_path)
    store.create(task)
    # Read-only by URL, as permissions do not bind the superuser.
    read_only = open_store(f"sqlite:///file:{tmp_path / FILE_NAME}?mode=ro&uri=true")
    text = refused(lambda: read_only.create(new_task()), tmp_path)
    assert "it cannot be written; check the owner of the data folder" in text
    assert read_only.get(task.task_id) == task
    read_only.close()
    store.close()


FULL_DISK = """
import resource, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from app.errors import StoreError
from app.tasks.model import Task, new_task_id
from app.tasks.store import open_store

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
    assert answer.stderr == ""
    assert answer.stdout.startswith(f"the task store {FILE_NAME}: the disk ")
    assert "full" in answer.stdout


# --- results -------------------------------------------------------------------------------


def kept_bytes(folder: Path) -> int:
    """Of the file and its log."""
    return sum((folder / f"{FILE_NAME}{suffix}").stat().st_size for suffix in ("", "-wal"))


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


def test_disk_that_is_full_refuses_a_message_and_keeps_what_is_stored(
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
