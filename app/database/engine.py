"""The connection to the task store's database, transactions, and errors in words.

`sqlite.py` and `postgresql.py` hold what is particular to each database.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    PoolProxiedConnection,
    create_engine,
    make_url,
)
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hotloop.app.database import sqlite
from hotloop.app.errors import StoreError, StoreUnavailableError
from hotloop.app.names import Durability

logger = logging.getLogger(__name__)

FILE_NAME: Final = "hotloop.sqlite3"
_OBSERVE: Final = "hotloop_observe"
_ALONE: Final = 0x686F746C6F6F70
"""The key of the lock, which other programs in the same database hardly use."""

_KEPT_CONNECTIONS: Final = 8
_MAX_WORDS: Final = 500
"""Characters of a database's message that are logged."""

Observe = Callable[[str, float, bool], None]
"""Called after each transaction with `read` or `write`, its seconds, and whether it failed."""


def make_engine(
    location: Path | str,
    busy_timeout_seconds: float,
    observe: Observe | None = None,
    durability: Durability = Durability.POWER,
) -> Engine:
    """An engine for the SQLite file in a data folder (a Path), or for a database URL (text)."""
    options: dict[str, object] = {_OBSERVE: observe}
    if isinstance(location, Path):
        url = URL.create("sqlite", database=str(location / FILE_NAME))
    else:
        url = make_url(location)
    if url.drivername == "postgresql":
        from hotloop.app.database import postgresql  # loads the driver

        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,  # a server that was restarted has dropped all connections
            pool_size=_KEPT_CONNECTIONS,
            pool_timeout=postgresql.POOL_SECONDS,
            connect_args=postgresql.connect_arguments(durability),
            execution_options=options,
        )
        postgresql.bound_waits(engine)
        return engine
    engine = create_engine(
        url,
        pool_size=_KEPT_CONNECTIONS,
        execution_options=options | sqlite.options(busy_timeout_seconds),
        json_deserializer=_json_or_nothing,
    )
    if engine.dialect.name == "sqlite":
        sqlite.set_up(engine, busy_timeout_seconds, durability)
    return engine


def _json_or_nothing(text: str) -> Any:
    """Read stored JSON; None for text that is not JSON, so that a damaged row fails only its own
    task and every other row can still be read. (PostgreSQL stores nothing but JSON.)
    """
    try:
        return json.loads(text)
    except ValueError:
        return None


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads. Raises StoreError when the database refuses, and IntegrityError;
    so does `writing`.
    """
    with _observed(engine, "read"), store_errors(engine), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes, or leaves everything as it was."""
    with _turn(engine), sqlite.writer(engine).begin() as connection:
        yield connection


@contextmanager
def single_statement(engine: Engine) -> Iterator[PoolProxiedConnection]:
    """A driver's connection to SQLite, for one statement that is a transaction by itself. Raises
    the errors of `writing`.
    """
    with _turn(engine), sqlite.driver_connection(engine) as connection:
        yield connection


@contextmanager
def _turn(engine: Engine) -> Iterator[None]:
    """Hold the turn to write, observe what is done, and make room once the disk is full."""
    try:
        with (
            _observed(engine, "write"),
            sqlite.turn(engine, _name(engine)),
            store_errors(engine),
        ):
            yield
    except StoreError as error:
        if isinstance(error.__cause__, DBAPIError) and sqlite.is_full(error.__cause__):
            sqlite.make_room(engine)
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


def alone(connection: Connection) -> None:
    """Wait until no other transaction that called this is open. For making tables, and for counting
    before taking one more, which several processes may do at once.
    """
    if connection.dialect.name == "postgresql":  # SQLite lets one writer in at a time anyway
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ALONE})")


@contextmanager
def slow(connection: Connection) -> Iterator[None]:
    """Allow the statements in the block minutes, for example to delete many results."""
    if connection.dialect.name == "sqlite":
        yield
        return
    from hotloop.app.database import postgresql

    with postgresql.slow(connection):
        yield


@contextmanager
def store_errors(engine: Engine) -> Iterator[None]:
    """Turn errors of the database into StoreError; IntegrityError passes."""
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
        words = " ".join(f"{sqlite.code(error)} {error.orig}".split())[:_MAX_WORDS]
        logger.warning("the database of the task store %s says: %s", name, words)
        may_pass, reason = _judged(error)
        unknown = f"the database answered with {type(error.orig).__name__}; the log has the details"
        kind = StoreUnavailableError if may_pass else StoreError
        raise kind(f"the task store {name}: {reason or unknown}") from error


def lets_nobody_in(error: StoreError) -> bool:
    """Return True if a server was reached, and refused the user, the password or the database."""
    cause = error.__cause__
    if not isinstance(cause, DBAPIError) or isinstance(cause.orig, sqlite3.Error):
        return False
    from hotloop.app.database import postgresql

    return postgresql.lets_nobody_in(cause)


def _judged(error: DBAPIError) -> tuple[bool, str | None]:
    """Return True if the error may pass, and what it means in words."""
    if isinstance(error.orig, sqlite3.Error):
        return sqlite.will_pass(error), sqlite.reason(error)
    from hotloop.app.database import postgresql

    return postgresql.will_pass(error), postgresql.reason(error)


def _name(engine: Engine) -> str:
    database = engine.url.database or ""
    return Path(database).name if engine.dialect.name == "sqlite" else database
