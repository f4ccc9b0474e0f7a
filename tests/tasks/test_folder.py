"""tasks.folder, with app.disk: files of tasks, and their copies in the database."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from hotloop.app.database.engine import writing
from hotloop.app.disk import hold, new_file
from hotloop.app.errors import DamagedFileError, StoreError, TaskNotFoundError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.folder import PART_BYTES, DataFolder
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.tables import inputs
from tests.fixtures.executions import begin

TASK = "task_0123abcd_1700000000"
OTHER = "task_ffffffff_1700000000"

PATHS: list[Callable[[DataFolder, str], Path]] = [
    DataFolder.upload_path,
    DataFolder.items_path,
]


def files(path: Path) -> set[str]:
    return {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}


def suffix(file: str) -> str:
    return "." + file.partition(".")[2]


def fill(path: Path, task_id: str) -> set[str]:
    """Make a file of each kind, and parts that killed processes left."""
    folder = DataFolder(path)
    made = [where(folder, task_id) for where in PATHS]
    parts = "items.npy.part", "items.npy.0123456789abcdef.part", "upload.ab12ab12ab12ab12.part"
    made.extend(path / "uploads" / f"{task_id}.{part}" for part in parts)
    for file in made:
        file.write_bytes(b"x")
    return {str(file.relative_to(path)) for file in made}


def test_folder_is_made_with_all_above_it_for_this_user_only(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    DataFolder(path)
    assert sorted(child.name for child in path.iterdir()) == ["uploads"]
    for made in (path, path / "uploads"):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert files(path) == set()
    DataFolder(path)


def test_each_kind_of_file_has_its_place(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    assert [where(folder, TASK).relative_to(tmp_path) for where in PATHS] == [
        Path("uploads") / f"{TASK}.upload",
        Path("uploads") / f"{TASK}.items.npy",
    ]


@pytest.mark.parametrize(
    "task_id",
    ["", ".", "..", "../x", "/etc/passwd", f"../{TASK}", f"{TASK}/..", f"{TASK}\0", f"{TASK}\n"],
)
def test_invalid_task_id_has_no_path(tmp_path: Path, task_id: str) -> None:
    folder = DataFolder(tmp_path)
    for where in PATHS:
        with pytest.raises(TaskNotFoundError):
            where(folder, task_id)
    with pytest.raises(TaskNotFoundError):
        folder.remove(task_id)


def test_remove_takes_all_files_of_the_task_and_no_other(tmp_path: Path) -> None:
    fill(tmp_path, TASK)
    others = fill(tmp_path, OTHER)
    folder = DataFolder(tmp_path)
    folder.remove(TASK)
    assert files(tmp_path) == others
    folder.remove(TASK)


def test_file_that_cannot_be_removed_is_a_store_error(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.items_path(TASK).mkdir()
    with pytest.raises(StoreError, match=rf"the file {TASK}\.items\.npy cannot be removed: "):
        folder.remove(TASK)


@pytest.mark.parametrize(("is_needed", "kept"), [(False, set()), (True, {".upload", ".items.npy"})])
def test_sweep_takes_what_no_task_needs_and_all_parts(
    tmp_path: Path, is_needed: bool, kept: set[str]
) -> None:
    all_of_it = fill(tmp_path, TASK)
    others = fill(tmp_path, OTHER)
    needed = {TASK, OTHER} if is_needed else {OTHER}
    removed = DataFolder(tmp_path).sweep(lambda _: needed)
    left = {file for file in all_of_it if suffix(file) in kept}
    left |= {file for file in others if suffix(file) in (".upload", ".items.npy")}
    assert files(tmp_path) == left
    assert sorted(removed) == sorted(Path(file).name for file in (all_of_it | others) - left)


def test_sweep_of_one_task_leaves_the_others(tmp_path: Path) -> None:
    fill(tmp_path, TASK)
    others = fill(tmp_path, OTHER)
    asked: list[Sequence[str]] = []
    DataFolder(tmp_path).sweep(lambda ids: asked.append(ids) or (), TASK)  # type: ignore[func-returns-value]
    assert asked == [[TASK]]
    assert files(tmp_path) == others


def test_sweep_leaves_what_a_process_writes_or_holds(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    held = folder.items_path(TASK)
    held.write_bytes(b"x")
    descriptor = hold(held)
    assert descriptor is not None
    with new_file(folder.upload_path(OTHER)):
        assert folder.sweep(lambda _: ()) == []
        assert len(files(tmp_path)) == 2
    os.close(descriptor)
    assert sorted(folder.sweep(lambda _: ())) == [held.name, f"{OTHER}.upload"]


KILLED = """
import os, signal, sys
from pathlib import Path
from hotloop.app.disk import hold, new_file
from hotloop.app.tasks.folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
folder.items_path(sys.argv[2]).write_bytes(b"x")
hold(folder.items_path(sys.argv[2]))
with new_file(folder.items_path(sys.argv[2])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_sweep_takes_what_a_killed_process_wrote_and_held(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), TASK]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL
    assert len(files(tmp_path)) == 2
    folder = DataFolder(tmp_path)
    assert len(folder.sweep(lambda ids: ids)) == 1
    assert folder.items_path(TASK).read_bytes() == b"x"
    folder.sweep(lambda _: ())
    assert files(tmp_path) == set()


def test_sweep_leaves_files_that_are_not_the_service_s(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    names = ["notes.txt", ".hidden", f"{TASK}.txt", f"{TASK}", f"x{TASK}.npy", "task_1_2.npy"]
    for name in names:
        (tmp_path / "uploads" / name).write_text("")
    (tmp_path / f"{TASK}.items.npy").write_text("")
    (tmp_path / "uploads" / f"{TASK}.npy").write_text("")  # of no kind
    before = files(tmp_path)
    assert folder.sweep(lambda _: ()) == []
    assert files(tmp_path) == before


def test_sweep_asks_for_the_task_after_it_has_seen_the_file(tmp_path: Path) -> None:
    """A task that is made meanwhile keeps its files."""
    fill(tmp_path, TASK)
    folder = DataFolder(tmp_path)

    def needed(task_ids: Sequence[str]) -> tuple[str, ...]:
        fill(tmp_path, OTHER)
        assert task_ids == [TASK]
        return ()

    folder.sweep(needed)
    assert len(files(tmp_path)) == 5


def test_folder_that_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("")
    with pytest.raises(StoreError, match="the data folder 'data' cannot be used") as caught:
        DataFolder(path)
    assert str(tmp_path) not in str(caught.value)
    assert "HOTLOOP_DATA_DIR" in str(caught.value)


def test_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        DataFolder(tmp_path / "file" / "data")


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_folder_that_cannot_be_written_is_a_store_error() -> None:
    """`/proc` refuses the superuser, too."""
    with pytest.raises(StoreError, match="the data folder 'hotloop' cannot be used"):
        DataFolder(Path("/proc/self/hotloop"))


def test_probe_that_the_disk_refuses_is_a_store_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="the disk is full; free some space, or delete"):
        DataFolder(tmp_path)
    assert files(tmp_path) == set()


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


def test_stored_input_is_fetched_unchanged(store: TaskStore, task_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    assert store.inputs.fetch(task_id, folder / "items", DIGEST)
    assert (folder / "items").read_bytes() == CONTENT
    assert not store.inputs.fetch("task_ffffffff_1700000000", folder / "none", None)
    assert [path.name for path in folder.iterdir()] == ["items"]


def test_parallel_fetches_do_not_mix(store: TaskStore, task_id: str, tmp_path: Path) -> None:
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
