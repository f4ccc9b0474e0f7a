"""Inputs of tasks in the database, for nodes that share it and no disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, delete, insert, select

from hotloop.app.disk import disk_error, new_file
from hotloop.app.errors import DamagedFileError
from hotloop.app.tasks.engine import reading, writing
from hotloop.app.tasks.rows import check_id
from hotloop.app.tasks.tables import inputs

PART_BYTES: Final = 1 << 20


class InputStore:
    """Files by task, in parts. All methods block, and raise StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def is_needed(self) -> bool:
        """Whether processes that share the database may have no disk in common."""
        return self._engine.dialect.name != "sqlite"

    def save(self, task_id: str, path: Path) -> str:
        """Copy the file at `path` into the database, all of it or nothing; returns its SHA-256."""
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
        """Make the file at `path`, complete or not at all; False when the database has none.

        Raises DamagedFileError when it has another SHA-256 than the one given.
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
    """Remove the task's input within a transaction of the caller's."""
    connection.execute(delete(inputs).where(inputs.c.task_id == task_id))
