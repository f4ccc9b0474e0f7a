"""The databases of the chaos tests: an SQLite file, or a PostgreSQL server that can be killed."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg

from hotloop.app.database.engine import FILE_NAME
from tests.fixtures.guarded import GuardedProcess
from tests.fixtures.link import Link
from tests.fixtures.postgres_server import RunningPostgres
from tests.fixtures.waiting import wait_until


class MortalPostgres(RunningPostgres):
    """A server that can be killed and restarted on its data. `link` leads to it and can be cut."""

    _command: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.link = Link(self.port)

    def linked_url(self, database: str) -> str:
        """The URL that goes through the link."""
        return self.url(database).replace(f":{self.port}/", f":{self.link.port}/")

    def crash(self) -> None:
        """SIGKILL of the server; its connections break, and no process listens."""
        self.process.kill()

    def restart(self) -> None:
        """Start it again; everything committed is there."""

        def answers() -> bool:
            # It refuses to start while any process of the killed server is left.
            if not self.process.is_alive:
                self.process.kill()
                self._launch(self._command, None)
            with suppress(psycopg.OperationalError), self.connect(connect_timeout=5):
                return True
            return False

        wait_until(answers, "the killed server answers again", interval=0.1)

    def stop(self) -> None:
        self.link.close()
        super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self, command: list[str], folder: Path | None) -> None:
        self._command = command
        # Keep its folder for the next start.
        self.process = GuardedProcess(command, None, user=self._user, end=signal.SIGQUIT)


@contextmanager
def mortal_postgres() -> Iterator[MortalPostgres]:
    """Start a server. Only its processes die, not the machine: writes need not reach the disk."""
    server = MortalPostgres()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def hanging(database: MortalPostgres | None, data: Path) -> Iterator[None]:
    """The database answers nothing in the block but keeps its connections. Without a server,
    another process locks the SQLite file in the folder `data`.
    """
    if database is not None:
        database.freeze()
        try:
            yield
        finally:
            database.thaw()
        return
    command = [sys.executable, "-m", "tests.chaos.locking", str(data / FILE_NAME)]
    locking = GuardedProcess(command)
    try:
        assert locking.read_line() == "locked"
        yield
    finally:
        locking.kill()


def can_be_written(data: Path) -> bool:
    """True if no process locks the SQLite file in this folder for longer than a write takes."""
    file = sqlite3.connect(data / FILE_NAME, isolation_level=None, timeout=2)
    with closing(file):
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        file.execute("ROLLBACK")
        return True
