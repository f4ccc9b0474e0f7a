"""tasks.store, database.engine, database.sqlite: the store in a file, and faults of that file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

import pytest

from hotloop.app.database.engine import FILE_NAME, writing
from hotloop.app.errors import StoreUnavailableError
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore, open_store
from tests.fixtures.executions import begin
from tests.fixtures.refusals import refused

NewTask = Callable[..., Task]
NewResult = Callable[..., BatchResult]


def test_file_is_in_the_data_folder_with_a_write_ahead_log(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental
        assert connection.execute("PRAGMA page_size").fetchone() == (16_384,)
    with writing(store.engine) as connected:
        assert connected.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
        assert connected.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # full
        assert connected.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connected.exec_driver_sql("PRAGMA secure_delete").scalar() == 0
        assert connected.exec_driver_sql("PRAGMA journal_size_limit").scalar() == 1 << 24
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {FILE_NAME, f"{FILE_NAME}-reserve"}


def test_files_are_for_their_owner_only(tmp_path: Path, new_task: NewTask) -> None:
    before = os.umask(0o022)
    try:
        store = open_store(tmp_path)
        store.create(new_task())
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        store.close()
    finally:
        os.umask(before)
    assert {f"{FILE_NAME}{suffix}" for suffix in ("", "-wal", "-shm")} < set(modes)
    assert set(modes.values()) == {0o600}


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


def test_writers_of_a_process_wait_for_each_other_within_a_bound(
    tmp_path: Path, impatient: TaskStore, new_task: NewTask
) -> None:
    task = new_task()
    with ThreadPoolExecutor(1) as pool:
        with writing(impatient.engine):
            waiting = pool.submit(refused, lambda: impatient.create(task), tmp_path)
            assert "locked for too long; try again" in waiting.result(timeout=60)
        with pytest.raises(ValueError, match="broken"), writing(impatient.engine):
            raise ValueError("broken")
        pool.submit(impatient.create, task).result(timeout=60)
    assert impatient.get(task.task_id) == task


def test_writing_waits_for_another_writer(tmp_path: Path, new_task: NewTask) -> None:
    store, task = open_store(tmp_path), new_task()
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
    store.close()


@pytest.mark.parametrize("size", [10, 100, 5_000])
def test_file_that_is_no_database_is_refused_unchanged(tmp_path: Path, size: int) -> None:
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
    with pytest.raises(StoreUnavailableError):  # work waits until it can be written again
        read_only.create(new_task())
    assert read_only.get(task.task_id) == task
    read_only.close()
    store.close()
