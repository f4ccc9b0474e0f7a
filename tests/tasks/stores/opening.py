"""Stores of earlier schemas for tests, and what the versions of the service said of their tasks."""

from __future__ import annotations

import gzip
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

FOLDER: Final = Path(__file__).parent


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
            archive.extractall(folder, filter="data")
        return
    with gzip.open(FOLDER / f"schema-{version}.sql.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(text.encode())


def has_all(new: Any, old: Any) -> bool:
    """Whether everything that was said is said again; newer versions may say more."""
    if isinstance(old, dict):
        return all(name in new and has_all(new[name], value) for name, value in old.items())
    if isinstance(old, list):
        return len(new) == len(old) and all(map(has_all, new, old))
    return bool(new == old)
