"""The files of tasks: where they lie in the data folder, and their copies in the database."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine, delete, insert, select

from hotloop.app.database.engine import reading, writing
from hotloop.app.disk import disk_error, new_file, remove_unused
from hotloop.app.errors import DamagedFileError, StoreError
from hotloop.app.names import is_task_id
from hotloop.app.tasks.rows import check_id
from hotloop.app.tasks.tables import inputs

_ITEMS: Final = ".items.npy"
_UPLOAD: Final = ".upload"
_SUFFIX: Final = re.compile(r"(\.items\.npy|\.upload)((\.[0-9a-f]{16})?\.part)?")
"""The end of a task's file name, after the task's id; `.part` while the file is being written."""

PART_BYTES: Final = 1 << 20
"""Bytes of a file in one row of the database."""

Needed = Callable[[Sequence[str]], Container[str]]
"""Function that returns which of some tasks still need their files."""


class DataFolder:
    """The folder of all files except the database's. It is made if it is missing, readable by this
    user only. Raises StoreError if it cannot be written to.
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
        """Return the path of the unread upload, which is needed until its items are read. Raises
        TaskNotFoundError for text that is no task's id.
        """
        return self._uploads / f"{check_id(task_id)}{_UPLOAD}"

    def items_path(self, task_id: str) -> Path:
        """Return the path of the task's items, needed until its end. Raises TaskNotFoundError."""
        return self._uploads / f"{check_id(task_id)}{_ITEMS}"

    def lock_of(self, task_id: str) -> asyncio.Lock:
        """Return the lock to hold while this process fetches the task's files."""
        return self._locks.setdefault(task_id, asyncio.Lock())

    def remove(self, task_id: str) -> None:
        """Remove all files of a task, if it has any.

        Raises StoreError when one cannot be removed.
        """
        for path in list(self._files(check_id(task_id))):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise _not_removed(path, error) from error

    def sweep(self, needed: Needed, task_id: str | None = None) -> list[str]:
        """Remove the files of tasks that are not `needed`, and partly written files that killed
        processes left; only those of `task_id`, if it is given. Returns the names of the files.

        Files that a process writes or holds stay for the next sweep; files that are no task's are
        never touched. A task must be in the store before it has files. Raises StoreError.
        """
        # Files are listed before tasks are asked for: a task that is made meanwhile has none in it.
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
        """Yield the files of one task, or of all."""
        for path in self._uploads.glob("task_*" if task_id is None else f"{task_id}.*"):
            name = _task_id(path)
            if is_task_id(name) and _SUFFIX.fullmatch(path.name.removeprefix(name)):
                yield path


def _task_id(path: Path) -> str:
    return path.name.partition(".")[0]


def _not_removed(path: Path, error: OSError) -> StoreError:
    return disk_error(f"the file {path.name} cannot be removed", error)


class InputStore:
    """Input files in the database, in parts, for nodes that share it and no disk.

    All methods block, and raise StoreError.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def is_needed(self) -> bool:
        """True if processes that share the database may have no disk in common."""
        return self._engine.dialect.name != "sqlite"

    def save(self, task_id: str, path: Path) -> str:
        """Copy the whole file at `path` into the database, and return its SHA-256."""
        check_id(task_id)
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file, writing(self._engine) as connection:
                part = 0
                while data := file.read(PART_BYTES):
                    digest.update(data)
                    row = {"task_id": task_id, "part": part, "data": data}
                    connection.execute(insert(inputs).values(**row))
                    part += 1
        except OSError as error:
            raise disk_error(f"the file {path.name} cannot be read", error) from error
        return digest.hexdigest()

    def fetch(self, task_id: str, path: Path, sha256: str | None) -> bool:
        """Write the file to `path`, completely or not at all; False when the database has none.

        Raises DamagedFileError when its SHA-256 is not the one given.
        """
        check_id(task_id)
        if (data := self._part(task_id, 0)) is None:
            return False
        digest, part = hashlib.sha256(), 0
        try:
            with new_file(path) as file:
                while data is not None:
                    file.write(data)
                    digest.update(data)
                    part += 1
                    data = self._part(task_id, part)
                if sha256 not in (None, digest.hexdigest()):
                    raise DamagedFileError(
                        "the task's items in the database are not as they were stored"
                    )
        except OSError as error:
            raise disk_error("the task's items cannot be stored", error) from error
        return True

    def _part(self, task_id: str, part: int) -> bytes | None:
        wanted = select(inputs.c.data).where(inputs.c.task_id == task_id, inputs.c.part == part)
        with reading(self._engine) as connection:
            data: bytes | None = connection.scalar(wanted)
        return data


def forget_inputs(connection: Connection, task_id: str) -> None:
    """Remove the task's input within the caller's transaction."""
    connection.execute(delete(inputs).where(inputs.c.task_id == task_id))
