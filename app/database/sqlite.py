"""The parts of the store that are SQLite's own: its connections, turns of writers, errors in words,
and the upkeep of its file.

The upkeep gives back freed space, and keeps a reserve so that a full disk still has room for the
outcome of tasks. It raises nothing: what cannot be done now is done the next time.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hotloop.app.errors import StoreUnavailableError
from hotloop.app.names import Durability

RESERVE_BYTES: Final = 16 << 20
"""Size of the reserve: enough to store the outcome of tasks, and to delete gigabytes of results,
which takes about a 1,000th of their size while it is done."""

_PAGE_BYTES: Final = 16_384
_PAGES_PER_VACUUM: Final = (8 << 20) // _PAGE_BYTES
_VACUUM_SECONDS: Final = 10.0
"""Most time for giving back space at once; the rest is reused, or given back later."""

_KEPT_LOG_BYTES: Final = 16 << 20
"""Size that the write-ahead log is cut to; a large transaction makes it as large as itself."""

_WRITES: Final = "hotloop_writes"
_TURN: Final = "hotloop_turn"
_TURN_SECONDS: Final = "hotloop_turn_seconds"

_REASONS: Final = {
    "SQLITE_BUSY": "another process has kept it locked for too long; try again",
    "SQLITE_FULL": "the disk is full; free some space, or delete finished tasks",
    "SQLITE_READONLY": "it cannot be written; check the owner of the data folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that the data folder is there, and its owner",
    "SQLITE_IOERR": "the disk reports an error; check it, and whether it is full",
    "SQLITE_CORRUPT": "it is damaged; put a copy in its place, or move it away and start anew",
    "SQLITE_NOTADB": "it is no SQLite file; put a copy in its place, or move it away",
}
"""Errors of SQLite in words, by how their names begin (SQLITE_READONLY_DIRECTORY, …)."""
_PASSING: Final = ("SQLITE_BUSY", "SQLITE_READONLY")
_NO_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR")
"""Errors of a full disk: a quota, or a limit of file sizes, is reported as the second."""


def options(busy_timeout_seconds: float) -> dict[str, object]:
    """Return the execution options of a new engine."""
    return {_TURN: threading.Lock(), _TURN_SECONDS: busy_timeout_seconds}


def writer(engine: Engine) -> Engine:
    """Return the engine with the option for transactions that write."""
    return engine.execution_options(**{_WRITES: True})


@contextmanager
def turn(engine: Engine, name: str) -> Iterator[None]:
    """Hold the turn to write. SQLite lets one writer in at a time, and another writer tries again
    only after up to 100 ms, so the writers of one process wait here instead, and are woken.
    """
    lock: threading.Lock | None = engine.get_execution_options().get(_TURN)
    if lock is None:
        yield
        return
    if not lock.acquire(timeout=engine.get_execution_options()[_TURN_SECONDS]):
        raise StoreUnavailableError(f"the task store {name}: {_REASONS['SQLITE_BUSY']}")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def driver_connection(engine: Engine) -> Iterator[PoolProxiedConnection]:
    """Lend a connection of the pool. Raises errors of the driver as SQLAlchemy does."""
    try:
        connection = engine.raw_connection()
        try:
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DBAPIError.instance(None, None, error, sqlite3.Error) from error


_SYNCHRONOUS: Final = {Durability.POWER: "FULL", Durability.PROCESS: "NORMAL"}
"""SQLite's setting for each durability; with FULL a commit waits until the log is on the disk."""


def set_up(engine: Engine, busy_timeout_seconds: float, durability: Durability) -> None:
    """Prepare all connections of a new engine."""

    @event.listens_for(engine, "do_connect")
    def on_connecting(*_: object) -> None:
        database = _file(engine)
        if database is not None and not database.exists():
            _make_private(database)

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions; on_begin does
        try:
            connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout_seconds * 1000)}")
            if connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
                # Works only for a new file, before anything is written to it. The time to give
                # back a page grows with the number of pages, hence larger ones than usual.
                connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _use_write_ahead_log(connection, busy_timeout_seconds)
            connection.execute(f"PRAGMA journal_size_limit = {_KEPT_LOG_BYTES}")
            connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
            # Some builds write zeros over what is deleted: that takes as much room in the log.
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()  # the pool does not know it yet
            raise

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that begins to write after it has read may fail at once when another one
        # has written in between; one that is known to write waits for its turn.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _file(engine: Engine) -> Path | None:
    """Return the database's file; None for a database in memory or not of SQLite."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database.startswith((":", "file:")):
        return None
    return Path(database)


def _make_private(database: Path) -> None:
    """Make an empty file that only its owner may read: SQLite would let everybody read it. The log
    gets the mode of the file.
    """
    # Linked, and never opened by its own name: closing a file drops all locks that SQLite holds on
    # it in the same process.
    with suppress(OSError):  # SQLite reports what is wrong
        descriptor, name = tempfile.mkstemp(dir=database.parent, prefix=f"{database.name}-")
        os.close(descriptor)
        try:
            os.link(name, database)
        finally:
            Path(name).unlink()


def _use_write_ahead_log(connection: sqlite3.Connection, busy_timeout_seconds: float) -> None:
    # This statement alone ignores the busy timeout: it also fails while others open a new file.
    give_up = time.monotonic() + busy_timeout_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
        else:
            return


def code(error: DBAPIError) -> str:
    """Return the name of an error, such as SQLITE_BUSY; empty for another database's error."""
    name: str = getattr(error.orig, "sqlite_errorname", "")
    return name


def will_pass(error: DBAPIError) -> bool:
    """Return True if the same call may succeed later without any change here."""
    return code(error).startswith(_PASSING)


def is_full(error: DBAPIError) -> bool:
    """Return True if the error may come from a full disk."""
    return code(error).startswith(_NO_ROOM)


def reason(error: DBAPIError) -> str | None:
    """Return the error in words for a client; None if only the log can explain it."""
    name = code(error)
    return next((text for known, text in _REASONS.items() if name.startswith(known)), None)


def take_reserve(engine: Engine) -> None:
    """Take the reserve if there is room for it."""
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
    """Give up the reserve and move the log into the file, so that the next small write succeeds
    after one that a full disk refused.
    """
    reserve = _reserve(engine)
    if reserve is not None:
        with suppress(OSError):
            reserve.unlink(missing_ok=True)
    _on_file(engine, _checkpoint)


def shrink(engine: Engine) -> None:
    """Give the space of deleted rows back to the system, and take the reserve again."""
    _on_file(engine, _vacuum)
    take_reserve(engine)


def _reserve(engine: Engine) -> Path | None:
    """Return the reserve's path; None without a file, or if the system cannot reserve space."""
    database = _file(engine)
    if database is None or not hasattr(os, "posix_fallocate"):
        return None
    return Path(f"{database}-reserve")


def _on_file(engine: Engine, work: Callable[[sqlite3.Connection], None]) -> None:
    if engine.dialect.name != "sqlite":
        return
    with suppress(sqlite3.Error, SQLAlchemyError):
        pooled = engine.raw_connection()
        try:
            connection: Any = pooled.driver_connection
            work(connection)
        finally:
            pooled.close()


def _vacuum(connection: sqlite3.Connection) -> None:
    # In steps, each a transaction, so that other writers can write in between.
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
    # Passive, so it waits for no other connection. The file gets shorter at the end of one.
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
