"""What is PostgreSQL's own: connections on which no wait is endless, and its errors in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

T = TypeVar("T")

STATEMENT_SECONDS: Final = 20
"""The server gives up a statement after so long."""

SILENT_SECONDS: Final = 25.0
"""The server is taken for hanging after so long without an answer."""

_SLOW: Final = 30
"""What is known to be slow, like deleting the results of many tasks, gets so many times as long."""

POOL_SECONDS: Final = 5.0
"""Time to wait for a free connection."""

CONNECT_ARGUMENTS: Final = {
    "application_name": "hotloop",
    "connect_timeout": 5,
    # A network that swallows everything is noticed in about as long as a dead node is; otherwise
    # a call would wait for its answer for up to two hours.
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # A process that is frozen within a transaction keeps the others from its rows for no longer.
    "options": (
        f"-c idle_in_transaction_session_timeout=5s -c statement_timeout={STATEMENT_SECONDS}s"
    ),
}

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
"""What an error of PostgreSQL means, by how its SQLSTATE begins."""
_PASSING: Final = ("08", "25P0", "25006", "40", "53", "55", "57")
_DISK_FULL: Final = "53100"

_REFUSALS: Final = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "pg_hba.conf",
)
"""In what a server says that lets nobody in. libpq tells no SQLSTATE of a failed connection."""

_SILENT_TEXT: Final = "its server does not answer; check it, and its disk"
_UNREACHABLE_TEXT: Final = (
    "it cannot be reached, or lets nobody in; check that its server runs, and "
    "HOTLOOP_DATABASE_URL. The log has the details"
)


class ServerSilentError(psycopg.OperationalError):
    """The server keeps the connection and answers nothing."""


class _Patience(threading.local):
    """How many times as long this thread waits."""

    factor = 1


_patience: Final = _Patience()


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server has not answered for SILENT_SECONDS.

    The server's own timeouts cannot do that: a server that is stopped or whose disk is stalled
    does not look at them, and its machine goes on to answer the keepalives.
    """

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **keywords: Any) -> T:
        seconds = SILENT_SECONDS * _patience.factor
        try:
            return super().wait(_bounded(gen, seconds), *args, **keywords)
        except ServerSilentError:
            self.pgconn.finish()
            raise


def _bounded(gen: Generator[Any, Any, T], seconds: float) -> Generator[Any, Any, T]:
    """The generator, ended by ServerSilentError after some time: psycopg resumes it several times
    a second whether or not there is something to read.
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
    """Have all connections of a new engine be of this kind."""

    @event.listens_for(engine, "do_connect")
    def connect(_: object, __: object, arguments: Any, keywords: dict[str, Any]) -> object:
        return BoundedConnection.connect(*arguments, **keywords)


@contextmanager
def slow(connection: Connection) -> Iterator[None]:
    """What the transaction does in the block may take long."""
    seconds = STATEMENT_SECONDS * _SLOW
    connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{seconds}s'")
    _patience.factor = _SLOW
    try:
        yield
    finally:
        _patience.factor = 1


def will_pass(error: DBAPIError) -> bool:
    """Whether the same may succeed later with nothing changed by anybody here."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return str(state).startswith(_PASSING) and state != _DISK_FULL


def lets_nobody_in(error: DBAPIError) -> bool:
    """Whether a server was reached, and refused the user, the password or the database."""
    return isinstance(error, OperationalError) and any(
        words in str(error.orig) for words in _REFUSALS
    )


def reason(error: DBAPIError) -> str | None:
    """The error in words for a client; None for one that only the log can explain."""
    if isinstance(error.orig, ServerSilentError):
        return _SILENT_TEXT
    state = getattr(error.orig, "sqlstate", None) or ""
    for beginning, text in _REASONS.items():
        if state.startswith(beginning):
            return text
    if not state and isinstance(error, OperationalError):
        return _UNREACHABLE_TEXT
    return None
