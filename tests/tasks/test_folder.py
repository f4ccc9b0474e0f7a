"""The data folder: where files are, and which may go."""

from __future__ import annotations

import errno
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import StoreError, TaskNotFoundError
from app.names import TaskStatus
from app.tasks.folder import DataFolder

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
    """One file of each kind, a half-written item file included."""
    folder = DataFolder(path)
    made = [where(folder, task_id) for where in PATHS]
    made.append(Path(f"{folder.items_path(task_id)}.part"))
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
def test_what_is_no_task_id_has_no_path(tmp_path: Path, task_id: str) -> None:
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


@pytest.mark.parametrize(
    ("status", "kept"),
    [
        (None, set()),
        (TaskStatus.PENDING, {".upload", ".items.npy", ".items.npy.part"}),
        (TaskStatus.RUNNING, {".upload", ".items.npy", ".items.npy.part"}),
        (TaskStatus.COMPLETED, {".items.npy"}),
        (TaskStatus.FAILED, {".items.npy"}),
        (TaskStatus.CANCELLED, {".items.npy"}),
    ],
)
def test_sweep_takes_what_no_task_needs(
    tmp_path: Path, status: TaskStatus | None, kept: set[str]
) -> None:
    all_of_it = fill(tmp_path, TASK)
    others = fill(tmp_path, OTHER)
    states = {TASK: status, OTHER: TaskStatus.RUNNING}
    removed = DataFolder(tmp_path).sweep(lambda task_id: states[task_id])
    left = {file for file in all_of_it if suffix(file) in kept}
    assert files(tmp_path) == left | others
    assert sorted(removed) == sorted(Path(file).name for file in all_of_it - left)


def test_sweep_leaves_files_that_are_not_the_service_s(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    names = ["notes.txt", ".hidden", f"{TASK}.txt", f"{TASK}", f"x{TASK}.npy", "task_1_2.npy"]
    for name in names:
        (tmp_path / "uploads" / name).write_text("")
    (tmp_path / f"{TASK}.items.npy").write_text("")
    (tmp_path / "uploads" / f"{TASK}.npy").write_text("")  # of no kind
    before = files(tmp_path)
    assert folder.sweep(lambda _: None) == []
    assert files(tmp_path) == before


def test_sweep_asks_for_the_task_after_it_has_seen_the_file(tmp_path: Path) -> None:
    """A task that is made meanwhile keeps its files."""
    fill(tmp_path, TASK)
    folder = DataFolder(tmp_path)

    def status(task_id: str) -> None:
        fill(tmp_path, OTHER)
        assert task_id == TASK

    folder.sweep(status)
    assert len(files(tmp_path)) == 3


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
