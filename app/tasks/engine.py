"""The connection to the task store's database, and its errors in words."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hotloop.app.errors import StoreError, StoreUnavailableError
from hotloop.app.tasks.upkeep import PAGE_BYTES, make_room

logger = logging.getLogger(__name__)

FILE_NAME: Final = "hotloop.sqlite3"
_WRITES: Final = "hotloop_writes"
_OBSERVE: Final = "hotloop_observe"
_TURN: Final = "hotloop_turn"
_ALONE: Final = 0x686F746C6F6F70
"""The key of the lock, which other programs in the same database hardly use."""

_KEPT_LOG_BYTES: Final = 16 << 20
"""Of the write-ahead log, which a large transaction may make as large as itself."""

_KEPT_CONNECTIONS: Final = 8
_MAX_WORDS: Final = 500
"""Characters of what a database says that are logged."""

_SQLITE_REASONS: Final = {
    "SQLITE_BUSY": "another process has kept it locked for too long; try again",
    "SQLITE_FULL": "the disk is full; free some space, or delete finished tasks",
    "SQLITE_READONLY": "it cannot be written; check the owner of the data folder",
    "SQLITE_CANTOPEN": "it cannot be opened; check that the data folder is there, and its owner",
    "SQLITE_IOERR": "the disk reports an error; check it, and whether it is full",
    "SQLITE_CORRUPT": "it is damaged; put a copy in its place, or move it away and start anew",
    "SQLITE_NOTADB": "it is no SQLite file; put a copy in its place, or move it away",
}
_SQLITE_PASSING: Final = ("SQLITE_BUSY", "SQLITE_READONLY")
_NO_ROOM: Final = ("SQLITE_FULL", "SQLITE_IOERR")
"""What a full disk may look like: a quota or a limit of file sizes is reported as the second."""


Observe = Callable[[str, float, bool], None]
"""Told of each transaction: `read` or `write`, its seconds, and whether it failed."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """Held by the one that writes; `seconds` until another gives up."""

    lock: threading.Lock
    seconds: float


def make_engine(
    location: Path | str, busy_timeout_seconds: float, observe: Observe | None = None
) -> Engine:
    """An engine for the SQLite file in a data folder (a Path), or for a database URL (text)."""
    options: dict[str, object] = {_OBSERVE: observe}
    if isinstance(location, Path):
        url = URL.create("sqlite", database=str(location / FILE_NAME))
    else:
        url = make_url(location)
    if url.drivername == "postgresql":
        from hotloop.app.tasks import postgresql  # loads the driver

        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,  # a server that was restarted has dropped all connections
            pool_size=_KEPT_CONNECTIONS,
            pool_timeout=postgresql.POOL_SECONDS,
            connect_args=postgresql.CONNECT_ARGUMENTS,
            execution_options=options,
        )
        postgresql.bound_waits(engine)
        return engine
    options[_TURN] = _Turn(threading.Lock(), busy_timeout_seconds)
    engine = create_engine(
        url,
        pool_size=_KEPT_CONNECTIONS,
        execution_options=options,
        json_deserializer=_json_or_nothing,
    )
    if engine.dialect.name == "sqlite":
        _set_up_sqlite(engine, busy_timeout_seconds)
    return engine


def _json_or_nothing(text: str) -> Any:
    """What is stored as JSON; nothing for text that is none, so that one damaged row, which fails
    with its task, keeps no other row from being read. (PostgreSQL stores nothing but JSON.)
    """
    try:
        return json.loads(text)
    except ValueError:
        return None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads. Both of these raise StoreError when the database refuses;
    IntegrityError passes.
    """
    with _observed(engine, "read"), store_errors(engine), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes, or leaves everything as it was."""
    try:
        with (
            _observed(engine, "write"),
            _turn(engine),
            store_errors(engine),
            writer(engine).begin() as connection,
        ):
            yield connection
    except StoreError as error:
        if isinstance(error.__cause__, DBAPIError) and _code(error.__cause__).startswith(_NO_ROOM):
            make_room(engine)
        raise


@contextmanager
def _observed(engine: Engine, kind: str) -> Iterator[None]:
    observe: Observe | None = engine.get_execution_options().get(_OBSERVE)
    started, failed = time.perf_counter(), False
    try:
        yield
    except StoreError:
        failed = True
        raise
    finally:
        if observe is not None:
            observe(kind, time.perf_counter() - started, failed)


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """With SQLite one writes at a time, and whoever waits for another looks again after up to
    100 ms, however many wait. Those of this process wait here instead, and are woken.
    """
    turn: _Turn | None = engine.get_execution_options().get(_TURN)
    if turn is None:
        yield
        return
    if not turn.lock.acquire(timeout=turn.seconds):
        text = f"the task store {_name(engine)}: {_SQLITE_REASONS['SQLITE_BUSY']}"
        raise StoreUnavailableError(text)
    try:
        yield
    finally:
        turn.lock.release()


def alone(connection: Connection) -> None:
    """Nobody else who called this goes on before the transaction ends: for making tables, and for
    counting before taking one more, which several processes may do at once.
    """
    if connection.dialect.name == "postgresql":  # a writer of SQLite is alone anyway
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ALONE})")


@contextmanager
def slow(connection: Connection) -> Iterator[None]:
    """What the transaction does in the block may take minutes, like deleting many results."""
    if connection.dialect.name == "sqlite":
        yield
        return
    from hotloop.app.tasks import postgresql

    with postgresql.slow(connection):
        yield


def writer(engine: Engine) -> Engine:
    """The same engine for one who writes in every transaction."""
    return engine.execution_options(**{_WRITES: True})


def _set_up_sqlite(engine: Engine, busy_timeout_seconds: float) -> None:
    @event.listens_for(engine, "do_connect")
    def on_connecting(*_: object) -> None:
        database = engine.url.database
        if database and not database.startswith((":", "file:")) and not Path(database).exists():
            _make_private(Path(database))

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions; on_begin does
        try:
            connection.execute(f"PRAGMA busy_timeout = {round(busy_timeout_seconds * 1000)}")
            if connection.execute("PRAGMA auto_vacuum").fetchone() == (0,):
                # For a new file only, before anything is written to it. The time to give back a
                # page grows with the number of pages, hence larger ones than usual.
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _use_write_ahead_log(connection, busy_timeout_seconds)
            connection.execute(f"PRAGMA journal_size_limit = {_KEPT_LOG_BYTES}")
            connection.execute("PRAGMA synchronous = NORMAL")
            # Some builds write zeros over what is deleted: that takes as much room in the log.
            connection.execute("PRAGMA secure_delete = OFF")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()  # the pool does not know it yet
            raise

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # A transaction that starts to write after it has read may fail at once when another one
        # has written in between; one that is known to write waits for its turn.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_private(database: Path) -> None:
    """Make an empty file for its owner only: SQLite would make one that everybody may read. Its log
    gets the mode of the file.
    """
    # Linked, and never opened by its own name: to close a file drops all locks that SQLite holds
    # on it in the same process.
    with suppress(OSError):  # SQLite reports what is wrong
        descriptor, name = tempfile.mkstemp(dir=database.parent, prefix=f"{database.name}-")
        os.close(descriptor)
        try:
            os.link(name, database)
        finally:
            Path(name).unlink()


def _use_write_ahead_log(connection: sqlite3.Connection, busy_timeout_seconds: float) -> None:
    # The one statement that does not wait: it fails when others open a new file just now, too.
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


@contextmanager
def store_errors(engine: Engine) -> Iterator[None]:
    """Turns what the database raises into StoreError; IntegrityError passes."""
    try:
        yield
    except IntegrityError:
        raise
    except PoolTimeoutError as error:
        text = "the task store has no connection free; try again"
        raise StoreUnavailableError(text) from error
    except DBAPIError as error:
        name = _name(engine)
        # Without the statement and its values.
        words = " ".join(f"{_code(error)} {error.orig}".split())[:_MAX_WORDS]
        logger.warning("the database of the task store %s says: %s", name, words)
        kind = StoreUnavailableError if _will_pass(error) else StoreError
        raise kind(f"the task store {name}: {_reason(error)}") from error


def lets_nobody_in(error: StoreError) -> bool:
    """Whether a server was reached, and refused the user, the password or the database."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError) or isinstance(cause.orig, sqlite3.Error):
        return False
    from hotloop.app.tasks import postgresql

    return postgresql.lets_nobody_in(cause)


def _will_pass(error: DBAPIError) -> bool:
    """Whether the same may succeed later with nothing changed by anybody here."""
    if isinstance(error.orig, sqlite3.Error):
        return _code(error).startswith(_SQLITE_PASSING)
    from hotloop.app.tasks import postgresql

    return postgresql.will_pass(error)


def _name(engine: Engine) -> str:
    database = engine.url.database or ""
    return Path(database).name if engine.dialect.name == "sqlite" else database


def _code(error: DBAPIError) -> str:
    name: str = getattr(error.orig, "sqlite_errorname", "")
    return name


def _reason(error: DBAPIError) -> str:
    unknown = f"the database answered with {type(error.orig).__name__}; the log has the details"
    if not isinstance(error.orig, sqlite3.Error):
        from hotloop.app.tasks import postgresql

        return postgresql.reason(error) or unknown
    # Extended codes begin with the name of the plain one: SQLITE_READONLY_DIRECTORY, …
    name = _code(error)
    return next((text for code, text in _SQLITE_REASONS.items() if name.startswith(code)), unknown)
