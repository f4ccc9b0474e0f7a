"""Upkeep of an SQLite file: giving back freed space, and room for what must be said on a full disk.

Nothing here raises: what cannot be done now is done the next time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

RESERVE_BYTES: Final = 16 << 20
"""Kept free for a full disk: enough to store the outcome of tasks, and to delete gigabytes of
results, which takes about a 1,000th of their size while it is done.
"""

PAGE_BYTES: Final = 16_384

_PAGES_PER_VACUUM: Final = (8 << 20) // PAGE_BYTES
_VACUUM_SECONDS: Final = 10.0
"""After so many, what is left waits for the next deletion; it is used for new results meanwhile."""


def set_up(engine: Engine) -> None:
    """Take the reserve, where there is room for it."""
    reserve = _reserve(engine)
    if reserve is None:
        return
    with suppress(OSError):
        descriptor = os.open(reserve, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            reserve.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def make_room(engine: Engine) -> None:
    """After a write that the disk refused: give up the reserve, and move the log into the file, so
    that the next small write succeeds.
    """
    reserve = _reserve(engine)
    if reserve is not None:
        with suppress(OSError):
            reserve.unlink(missing_ok=True)
    _on_file(engine, _checkpoint)


def shrink(engine: Engine) -> None:
    """Give back to the system what deleted rows have left, and take the reserve again."""
    _on_file(engine, _vacuum)
    set_up(engine)


def _reserve(engine: Engine) -> Path | None:
    """Where the reserve is; None for what is no file of ours."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database.startswith((":", "file:")):
        return None
    return Path(f"{database}-reserve") if hasattr(os, "posix_fallocate") else None


def _on_file(engine: Engine, work: Callable[[sqlite3.Connection], None]) -> None:
    if engine.dialect.name != "sqlite":
        return
    with suppress(sqlite3.Error, SQLAlchemyError):
        pooled = engine.raw_connection()
        try:
            connection = pooled.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            work(connection)
        finally:
            pooled.close()


def _vacuum(connection: sqlite3.Connection) -> None:
    # In steps, each a transaction, because others can write in between.
    give_up = time.monotonic() + _VACUUM_SECONDS
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    while free:
        before = free
        connection.execute(f"PRAGMA incremental_vacuum({_PAGES_PER_VACUUM})").fetchall()
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        if free >= before or time.monotonic() > give_up:
            break
    _checkpoint(connection)


def _checkpoint(connection: sqlite3.Connection) -> None:
    # Passive: it waits for nobody. The file gets shorter at the end of one.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
