"""Stores of earlier schemas for tests, and what the versions of the service said of their tasks."""

from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from fastapi import Request

from hotloop.app.execution.presenters import task_view
from hotloop.app.http.answers import linked
from hotloop.app.tasks.store import TaskStore
from hotloop.app.wiring import BODIES

FOLDER: Final = Path(__file__).parent

HOST: Final = "127.0.0.1:35755"
"""Address of the service of schema 5, which stands in the commands that it showed."""


@dataclass(frozen=True, slots=True)
class Said:
    """`tasks` has the ids by name; `ended` the view and the results of those that had ended."""

    tasks: dict[str, str]
    ended: dict[str, dict[str, Any]]


def said(version: int) -> Said:
    return Said(**json.loads((FOLDER / f"schema-{version}.json").read_text("utf-8")))


def restore(version: int, folder: Path, url: str | None = None) -> None:
    """Put a data folder of the schema into `folder`, or with a URL the database at that."""
    if url is None:
        with tarfile.open(FOLDER / f"schema-{version}.tar.gz") as archive:
            # Python 3.11 has filters from 3.11.4 on.
            safely: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder, **safely)
        return
    with gzip.open(FOLDER / f"schema-{version}.sql.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode())


def shown(store: TaskStore, task_id: str) -> Any:
    """The task as the service answers a request at HOST now, as JSON."""
    scope = {"type": "http", "scheme": "http", "path": "/", "headers": [(b"host", HOST.encode())]}
    return linked(Request(scope), task_view(store, BODIES, task_id)).model_dump(mode="json")


def has_all(new: Any, old: Any) -> bool:
    """Return True if `new` has all that `old` has; newer versions may say more."""
    if isinstance(old, dict):
        return all(name in new and has_all(new[name], value) for name, value in old.items())
    if isinstance(old, list):
        return len(new) == len(old) and all(map(has_all, new, old))
    return bool(new == old)
