"""An API process and a node over one database; each may be killed, frozen and started again."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from app.tasks.model import Shard
from app.tasks.nodes import NodeStore
from app.tasks.store import TaskStore, open_store
from tests.chaos.databases import MortalPostgres
from tests.chaos.source import LOG_VARIABLE, WAIT_VARIABLE
from tests.fixtures.guarded import GuardedProcess, free_port
from tests.fixtures.processes import is_gone, pool_workers, tree
from tests.fixtures.server import ROOT, plain_environment
from tests.fixtures.waiting import wait_until

WAIT_SECONDS: Final = 0.02
"""Of each batch in its stage."""
PATIENCE_SECONDS: Final = 90.0
"""For whatever must come about; a loaded machine takes its time."""


class Member:
    """A process of the service; `name` is how its node id begins."""

    def __init__(self, name: str, process: GuardedProcess, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def run_hosts(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return [p for p in tree(self.process.pid) if "app.runhost" in _words(p)]
        return []

    def workers(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return pool_workers(self.process.pid)
        return []


class Cluster:
    """`api` and `node` are the members that are up."""

    def __init__(self, folder: Path, database: MortalPostgres | None) -> None:
        self.folder = folder
        self.database = database
        self.log = folder / "computed"
        self.port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.seen: set[psutil.Process] = set()
        """Every process that was ever seen below a member."""
        self._numbers = count()
        self.api = self.start("api")
        wait_until(self.is_ready, "the service is ready", PATIENCE_SECONDS, 0.05)
        self.node = self.start("node")
        self.store: TaskStore = open_store(self._location())
        self._nodes = NodeStore(self.store.engine, "observer", "test")
        self.wait_listed(self.node)

    def start(self, role: str) -> Member:
        name = f"{role}-{next(self._numbers)}"
        log = self.folder / f"{name}.log"
        settings = {
            "HOTLOOP_DATA_DIR": str(self.folder / "data"),
            "HOTLOOP_PORT": str(self.port),
            "HOTLOOP_NODE_ID": name,
            "HOTLOOP_RUN_HOSTS": "1",
            "HOTLOOP_SHARD_ITEMS": "1000",
            "HOTLOOP_SOURCES": '{"counted": "tests.chaos.source:make"}',
            "PYTHONPATH": str(ROOT),
            LOG_VARIABLE: str(self.log),
            WAIT_VARIABLE: str(WAIT_SECONDS),
        }
        if self.database is not None:
            way = self.database.linked_url if role == "node" else self.database.url
            settings["HOTLOOP_DATABASE_URL"] = way("postgres")
        environment = plain_environment() | settings
        words = [f"{key}={value}" for key, value in environment.items()]
        command = [sys.executable, str(ROOT / "main.py"), *(["node"] if role == "node" else [])]
        write = f'exec "$0" "$@" >>{log} 2>&1'
        process = GuardedProcess(["/bin/sh", "-c", write, "/usr/bin/env", "-i", *words, *command])
        return Member(name, process, log)

    @property
    def members(self) -> tuple[Member, Member]:
        return self.api, self.node

    def member(self, shard: Shard) -> Member | None:
        """Who executes it, of those that are up."""
        name = (shard.node or "").partition(":")[0]
        return next((member for member in self.members if member.name == name), None)

    def is_ready(self) -> bool:
        assert self.api.process.is_alive, self.api.log.read_text()
        with suppress(httpx.HTTPError):
            return self.client.get("/health/ready").status_code == 200
        return False

    def is_listed(self, member: Member) -> bool:
        """Whether the others count it as alive: a node that was taken for dead must join again."""
        return any(node.partition(":")[0] == member.name for node in self._nodes.alive())

    def is_adopted(self, member: Member) -> bool:
        """Whether a dead member's work is back in the queue."""
        return not any(node.node_id.partition(":")[0] == member.name for node in self._nodes.list())

    def wait_listed(self, member: Member) -> None:
        wait_until(lambda: self.is_listed(member), f"{member.name} is listed", PATIENCE_SECONDS)

    def look(self) -> None:
        for member in self.members:
            with suppress(psutil.Error):
                self.seen |= set(tree(member.process.pid))

    def stop(self) -> None:
        """All of it, in order; and see that nothing is left."""
        self.look()
        for member in self.members:
            member.process.send_signal(signal.SIGCONT)
            member.process.send_signal(signal.SIGTERM)
        for member in self.members:
            what = f"{member.name} has ended"
            wait_until(lambda m=member: not m.process.is_alive, what, PATIENCE_SECONDS)  # type: ignore[misc]
            member.process.kill()
        wait_until(lambda: all(map(is_gone, self.seen)), "no process is left")

    def kill(self) -> None:
        """At the end, whatever has happened."""
        for member in self.members:
            member.process.kill()
        self.client.close()
        self.store.close()

    def _location(self) -> Path | str:
        if self.database is None:
            return self.folder / "data"
        return self.database.url("postgres")


@contextmanager
def running_cluster(folder: Path, database: MortalPostgres | None) -> Iterator[Cluster]:
    """Over the database, or an SQLite file when there is none."""
    cluster = Cluster(folder, database)
    try:
        yield cluster
    finally:
        cluster.kill()


def _words(process: psutil.Process) -> list[Any]:
    with suppress(psutil.Error):
        words: list[Any] = process.cmdline()
        return words
    return []
