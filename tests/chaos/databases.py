"""Where the tasks are: an SQLite file, or a PostgreSQL server that may be killed and started."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from hotloop.app.tasks.engine import FILE_NAME
from tests.fixtures.guarded import GuardedProcess
from tests.fixtures.link import Link
from tests.fixtures.postgres_server import RunningPostgres
from tests.fixtures.processes import tree
from tests.fixtures.waiting import wait_until


class MortalPostgres(RunningPostgres):
    """A server that can be killed, and started again with what it had on its disk. `link` is a way
    to it that can be cut.
    """

    _command: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.link = Link(self.port)

    def linked_url(self, database: str) -> str:
        """By way of the link."""
        return self.url(database).replace(f":{self.port}/", f":{self.link.port}/")

    def crash(self) -> None:
        """SIGKILL of the server; its connections break, and nobody listens."""
        self.process.kill()

    def restart(self) -> None:
        """What was committed is there again."""

        def answers() -> bool:
            # Refuses to start as long as anything of the killed one is still there.
            if not self.process.is_alive:
                self.process.kill()
                self._launch(self._command, None)
            with suppress(psycopg.OperationalError), self.connect(connect_timeout=5):
                return True
            return False

        wait_until(answers, "the killed server answers again", interval=0.1)

    def hang(self) -> None:
        """SIGSTOP of the server and of the processes that serve its connections: they stay open,
        and nothing is answered.
        """
        self.pause()
        self._signal_below(signal.SIGSTOP)

    def go_on(self) -> None:
        """End `hang`. Can be called at any time."""
        self._signal_below(signal.SIGCONT)
        self.resume()

    def stop(self) -> None:
        self.go_on()
        self.link.close()
        super().stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal_below(self, how: signal.Signals) -> None:
        with suppress(psutil.Error):
            for process in tree(self.process.pid):
                with suppress(psutil.Error):
                    process.send_signal(how)

    def _launch(self, command: list[str], folder: Path | None) -> None:
        self._command = command
        # Its folder outlives it.
        self.process = GuardedProcess(command, None, user=self._user, end=signal.SIGQUIT)


@contextmanager
def mortal_postgres() -> Iterator[MortalPostgres]:
    """Its death is that of a process, not of the machine: writes need not reach the disk."""
    server = MortalPostgres()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def hanging(database: MortalPostgres | None, data: Path) -> Iterator[None]:
    """The database answers nothing in the block, and nothing is closed. The file in the folder
    `data`, where there is no server, is locked by another process.
    """
    if database is not None:
        database.hang()
        try:
            yield
        finally:
            database.go_on()
        return
    command = [sys.executable, "-m", "tests.chaos.locking", str(data / FILE_NAME)]
    locking = GuardedProcess(command)
    try:
        assert locking.read_line() == "locked"
        yield
    finally:
        locking.kill()


def can_be_written(data: Path) -> bool:
    """Whether nobody keeps the SQLite file in this folder locked for longer than a write takes."""
    file = sqlite3.connect(data / FILE_NAME, isolation_level=None, timeout=2)
    with closing(file):
        try:
            file.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        file.execute("ROLLBACK")
        return True
