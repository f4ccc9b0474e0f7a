"""The data folder: which files a task has, and where."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.disk import disk_error
from app.errors import TaskNotFoundError
from app.names import TaskStatus
from app.tasks.model import FINISHED, is_task_id

_ITEMS: Final = ".items.npy"
_ITEMS_PART: Final = ".items.npy.part"
_UPLOAD: Final = ".upload"
_SUFFIXES: Final = (_ITEMS, _ITEMS_PART, _UPLOAD)
"""Every kind of file that a task may have."""


class DataFolder:
    """The folder of all files but the database's, made where it is missing, for this user only.

    Raises StoreError when it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._uploads = path / "uploads"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._uploads.mkdir(mode=0o700, exist_ok=True)
            probe = self._uploads / f"probe-{secrets.token_hex(8)}"
            try:
                probe.write_bytes(b"probe")
            finally:
                probe.unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(
                f"the data folder {path.name!r} cannot be used, see HOTLOOP_DATA_DIR", error
            ) from error

    def upload_path(self, task_id: str) -> Path:
        """The upload as it came; needed until its items are read. This and the next raise
        TaskNotFoundError for what is no task's id.
        """
        return self._uploads / f"{_checked(task_id)}{_UPLOAD}"

    def items_path(self, task_id: str) -> Path:
        """The items of an upload; kept with the task."""
        return self._uploads / f"{_checked(task_id)}{_ITEMS}"

    def remove(self, task_id: str) -> None:
        """Remove all files of a task; those that are not there do not matter.

        Raises StoreError when one cannot be removed.
        """
        _checked(task_id)
        for suffix in _SUFFIXES:
            _unlink(self._uploads / f"{task_id}{suffix}")

    def sweep(self, status: Callable[[str], TaskStatus | None]) -> list[str]:
        """Remove what dead processes left: all files of tasks whose `status` is None, and of
        finished tasks those that only an unfinished one needs. Returns the files' names.

        Files of other names are let alone. A task must be in the store before it has files.
        """
        removed = []
        # The listing comes first: a task that is made meanwhile has no file in it.
        for path in sorted(self._uploads.iterdir()):
            task_id, dot, rest = path.name.partition(".")
            suffix = dot + rest
            if not is_task_id(task_id) or suffix not in _SUFFIXES:
                continue
            state = status(task_id)
            if state is None or (state in FINISHED and suffix in (_UPLOAD, _ITEMS_PART)):
                _unlink(path)
                removed.append(path.name)
        return removed


def _checked(task_id: str) -> str:
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id)
    return task_id


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(f"the file {path.name} cannot be removed", error) from error
