"""The data folder: which files a task has, and where."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from hotloop.app.disk import disk_error, remove_unused
from hotloop.app.errors import StoreError, TaskNotFoundError
from hotloop.app.tasks.model import is_task_id

_ITEMS: Final = ".items.npy"
_UPLOAD: Final = ".upload"
_SUFFIX: Final = re.compile(r"(\.items\.npy|\.upload)((\.[0-9a-f]{16})?\.part)?")
"""Every kind of file that a task may have, and those that are being written."""

Needed = Callable[[Sequence[str]], Container[str]]
"""Tells which of some tasks still need their files."""


class DataFolder:
    """The folder of all files but the database's, made where it is missing, for this user only.

    Raises StoreError when it cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._uploads = path / "uploads"
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
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
        """The task's items; needed until the task ends."""
        return self._uploads / f"{_checked(task_id)}{_ITEMS}"

    def lock_of(self, task_id: str) -> asyncio.Lock:
        """Held by the execution in this process that brings the task's files here."""
        return self._locks.setdefault(task_id, asyncio.Lock())

    def remove(self, task_id: str) -> None:
        """Remove all files of a task; those that are not there do not matter.

        Raises StoreError when one cannot be removed.
        """
        for path in list(self._files(_checked(task_id))):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _not_removed(path, error) from error

    def sweep(self, needed: Needed, task_id: str | None = None) -> list[str]:
        """Remove the files of tasks that are not `needed`, and the parts that killed processes
        left; of one task only, if it is given. Returns the names of the files.

        Files that a process writes or holds stay for the next sweep, those of other names for
        ever. A task must be in the store before it has files. Raises StoreError.
        """
        # The listing comes first: a task that is made meanwhile has no file in it.
        found = sorted(self._files(task_id))
        if not found:
            return []
        kept = needed(sorted({_task_id(path) for path in found}))
        removed = []
        for path in found:
            if path.suffix == ".part" or _task_id(path) not in kept:
                try:
                    if remove_unused(path):
                        removed.append(path.name)
                except OSError as error:
                    raise _not_removed(path, error) from error
        return removed

    def _files(self, task_id: str | None) -> Iterator[Path]:
        """The files of one task, or of all."""
        for path in self._uploads.glob("task_*" if task_id is None else f"{task_id}.*"):
            name = _task_id(path)
            if is_task_id(name) and _SUFFIX.fullmatch(path.name.removeprefix(name)):
                yield path


def _task_id(path: Path) -> str:
    return path.name.partition(".")[0]


def _checked(task_id: str) -> str:
    if not is_task_id(task_id):
        raise TaskNotFoundError(task_id)
    return task_id


def _not_removed(path: Path, error: OSError) -> StoreError:
    return disk_error(f"the file {path.name} cannot be removed", error)
