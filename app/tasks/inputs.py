"""Inputs of tasks in the database, for nodes that share it and no disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Engine, insert, select

from app.disk import disk_error
from app.tasks.engine import reading, writing
from app.tasks.rows import check_id
from app.tasks.tables import inputs

PART_BYTES: Final = 1 << 20


class InputStore:
    """Files by task, in parts. All methods block, and raise StoreError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def is_needed(self) -> bool:
        """Whether processes that share the database may have no disk in common."""
        return self._engine.dialect.name != "sqlite"

    def save(self, task_id: str, path: Path) -> None:
        """Copy the file at `path` into the database; all of it or nothing."""
        check_id(task_id)
        try:
            with path.open("rb") as file, writing(self._engine) as connection:
                part = 0
                while data := file.read(PART_BYTES):
                    row = {"task_id": task_id, "part": part, "data": data}
                    connection.execute(insert(inputs).values(**row))
                    part += 1
        except OSError as error:
            raise disk_error(f"the file {path.name} cannot be read", error) from error

    def fetch(self, task_id: str, path: Path) -> bool:
        """Make the file at `path`, complete or not at all; False when the database has none."""
        check_id(task_id)
        part_path = path.with_name(f"{path.name}.part")
        part = 0
        try:
            with part_path.open("wb") as file:
                while (data := self._part(task_id, part)) is not None:
                    file.write(data)
                    part += 1
            if part:
                part_path.replace(path)
        except OSError as error:
            raise disk_error("the task's items cannot be stored", error) from error
        finally:
            part_path.unlink(missing_ok=True)
        return part > 0

    def _part(self, task_id: str, part: int) -> bytes | None:
        wanted = select(inputs.c.data).where(inputs.c.task_id == task_id, inputs.c.part == part)
        with reading(self._engine) as connection:
            data: bytes | None = connection.scalar(wanted)
        return data
