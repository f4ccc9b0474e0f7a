"""The parts of the store that are PostgreSQL's own: connections whose waits are all bounded, and
errors in words.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from hotloop.app.names import Durability

T = TypeVar("T")

STATEMENT_SECONDS: Final = 20
"""Time after which the server gives up a statement."""

SILENT_SECONDS: Final = 25.0
"""Time without an answer after which a server counts as hanging."""

_SLOW: Final = 30
"""Factor of both times for statements that are known to be slow, like deleting many results."""

POOL_SECONDS: Final = 5.0
"""Time to wait for a free connection."""

_CONNECT_ARGUMENTS: Final = {
    "application_name": "hotloop",
    "connect_timeout": 5,
    # A network that drops everything is noticed in about the time that a dead node takes; without
    # these, a call would wait for its answer for up to two hours.
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # A process that is frozen within a transaction locks its rows for no longer than this.
    "options": (
        f"-c idle_in_transaction_session_timeout=5s -c statement_timeout={STATEMENT_SECONDS}s"
    ),
}


def connect_arguments(durability: Durability) -> dict[str, Any]:
    """Return the arguments of a connection. With POWER a commit waits as the server is set."""
    if durability is Durability.POWER:
        return dict(_CONNECT_ARGUMENTS)
    options = f"{_CONNECT_ARGUMENTS['options']} -c synchronous_commit=off"
    return _CONNECT_ARGUMENTS | {"options": options}


_REASONS: Final = {
    "25006": "it takes no writes now (a standby, or set to read-only); try again",
    "28": "it refuses the user or the password of HOTLOOP_DATABASE_URL",
    "3D": "there is no such database; make it, or change HOTLOOP_DATABASE_URL",
    "40": "another process wrote the same rows; try again",
    "42501": "its user may not do this; give it the rights on the database",
    "53100": "the disk of its server is full; free some space, or delete finished tasks",
    "53": "its server has no connections or memory left; raise its limits",
    "55": "another process has kept it locked for too long; try again",
    "57014": f"its server did not finish within {STATEMENT_SECONDS} s; try again",
    "57": "its server is stopping or starting; try again",
}
"""Errors of PostgreSQL in words, by how their SQLSTATE begins."""
_PASSING: Final = ("08", "25P0", "25006", "40", "53", "55", "57")
_DISK_FULL: Final = "53100"

_REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "pg_hba.conf",
)
"""Parts of the message of a server that refuses a connection; libpq has no SQLSTATE for that."""

_SILENT_TEXT: Final = "its server does not answer; check it, and its disk"
_UNREACHABLE_TEXT: Final = (
    "it cannot be reached, or lets nobody in; check that its server runs, and "
    "HOTLOOP_DATABASE_URL. The log has the details"
)


class ServerSilentError(psycopg.OperationalError):
    """The server keeps the connection open and does not answer."""


class _Patience(threading.local):
    """The factor of this thread's waits, see `_SLOW`."""

    factor = 1


_patience: Final = _Patience()


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server has not answered for SILENT_SECONDS.

    The server's own timeouts cannot do that: a server that is stopped, or whose disk is stalled,
    does not check them, while its machine still answers the keepalives.
    """

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **keywords: Any) -> T:
        seconds = SILENT_SECONDS * _patience.factor
        try:
            return super().wait(_bounded(gen, seconds), *args, **keywords)
        except ServerSilentError:
            self.pgconn.finish()
            raise


def _bounded(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """Pass the generator on, and end it with ServerSilentError after `seconds`: psycopg resumes it
    several times a second, whether or not there is something to read.
    """
    give_up = time.monotonic() + seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > give_up:
                raise ServerSilentError(f"the server has not answered for {seconds:g} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        made: T = end.value
        return made


def bound_waits(engine: Engine) -> None:
    """Make all connections of a new engine BoundedConnections."""

    @event.listens_for(engine, "do_connect")
    def connect(_: object, __: object, arguments: Any, keywords: dict[str, Any]) -> object:
        return BoundedConnection.connect(*arguments, **keywords)


@contextmanager
def slow(connection: Connection) -> Iterator[None]:
    """Allow the transaction's statements in the block `_SLOW` times as long."""
    seconds = STATEMENT_SECONDS * _SLOW
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{seconds}s'")
    _patience.factor = _SLOW
    try:
        yield
    finally:
        _patience.factor = 1


def will_pass(error: DBAPIError) -> bool:
    """Return True if the same call may succeed later without any change here."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(_PASSING) and state != _DISK_FULL


def lets_nobody_in(error: DBAPIError) -> bool:
    """Return True if a server was reached, and refused the user, the password or the database."""
    return isinstance(error, OperationalError) and any(
        words in str(error.orig) for words in _REFUSALS
    )


def reason(error: DBAPIError) -> str | None:
    """Return the error in words for a client; None if only the log can explain it."""
    if isinstance(error.orig, ServerSilentError):
        return _SILENT_TEXT
    state = getattr(error.orig, "sqlstate", None) or ""
    for beginning, text in _REASONS.items():
        if state.startswith(beginning):
            return text
    if not state and isinstance(error, OperationalError):
        return _UNREACHABLE_TEXT
    return None
