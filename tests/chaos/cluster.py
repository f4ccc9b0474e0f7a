"""An API process and nodes over one database; each may be killed, frozen and started again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from hotloop.app.tasks.model import Shard
from hotloop.app.tasks.nodes import Node, NodeStore
from hotloop.app.tasks.store import TaskStore, open_store
from tests.chaos.clock import Clock
from tests.chaos.databases import MortalPostgres
from tests.chaos.source import LOG_VARIABLE, SOURCES, WAIT_VARIABLE
from tests.chaos.surroundings import sitecustomize
from tests.fixtures.guarded import GuardedProcess, free_port
from tests.fixtures.processes import is_gone, pool_workers, tree
from tests.fixtures.server import ROOT, plain_environment
from tests.fixtures.waiting import wait_until


class Interpreter:
    """Runs what `sys.executable` runs, from another path. While it is away, no process that its
    `path` names can start; those that run go on.
    """

    def __init__(self, folder: Path) -> None:
        home = folder / "python"
        self.path = home / "bin" / "python"
        self._away = home / "bin" / "python.away"
        self.path.parent.mkdir(parents=True)
        self.path.symlink_to(os.path.realpath(sys.executable))
        if sys.prefix != sys.base_prefix:  # a virtual environment is found by these beside it
            for name in ("pyvenv.cfg", "lib", "lib64"):
                if (Path(sys.prefix) / name).exists():
                    (home / name).symlink_to(Path(sys.prefix) / name)

    def take_away(self) -> None:
        self.path.rename(self._away)

    def put_back(self) -> None:
        """Can be called again."""
        if self._away.is_symlink():
            self._away.rename(self.path)


WAIT_SECONDS: Final = 0.02
"""The delay of each batch in its stage."""
PATIENCE_SECONDS: Final = 120.0
"""The bound of every wait; a loaded machine is slow."""

ROLES: Final[dict[str, dict[str, str]]] = {
    "api": {"HOTLOOP_RUN_HOSTS": "1", "HOTLOOP_BACKGROUND_RUNS": "1"},
    "node": {"HOTLOOP_RUN_HOSTS": "2", "HOTLOOP_BACKGROUND_RUNS": "2"},
    "weak": {
        "HOTLOOP_RUN_HOSTS": "1",
        "HOTLOOP_BACKGROUND_RUNS": "1",
        "HOTLOOP_MEMORY_BUDGET_BYTES": str(256 << 20),  # the least that there may be
        sitecustomize.NO_CYTHON_VARIABLE: "1",
    },
}
"""Settings of each role."""


class Member:
    """A process of the service; `name` is how its node id begins."""

    def __init__(self, role: str, name: str, process: GuardedProcess, log: Path) -> None:
        self.role = role
        self.name = name
        self.process = process
        self.log = log

    def run_hosts(self) -> list[psutil.Process]:
        return [p for p in self.below() if "hotloop.app.runhost" in _words(p)]

    def workers(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return pool_workers(self.process.pid)
        return []

    def below(self) -> list[psutil.Process]:
        """The processes below it; none if it has ended."""
        with suppress(psutil.Error):
            return tree(self.process.pid)
        return []


class Cluster:
    """`members` are up, or about to start; `api` and `node` are always among them."""

    def __init__(self, folder: Path, database: MortalPostgres | None) -> None:
        self.folder = folder
        self.database = database
        self.log = folder / "computed"
        self.clock = Clock(folder, database)
        self.interpreter = Interpreter(folder)
        self.port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60)
        self.seen: set[psutil.Process] = set()
        """Every process that was ever seen below a member."""
        self.accepted: set[str] = set()
        """The ids of all tasks."""
        self._numbers = count()
        self._by_role: dict[str, Member] = {}
        self.wait_up([self.start("api")])
        self.store: TaskStore = open_store(self._location())
        self._nodes = NodeStore(self.store.engine, "observer", "test")
        self.wait_up([self.start("node")])

    @property
    def api(self) -> Member:
        return self._by_role["api"]

    @property
    def node(self) -> Member:
        return self._by_role["node"]

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(self._by_role.values())

    def start(self, role: str) -> Member:
        """Start a member in place of the last one of its role, which has ended; returns at once."""
        name = f"{role}-{next(self._numbers)}"
        log = self.folder / f"{name}.log"
        settings = {
            "HOTLOOP_DATA_DIR": str(self.data_folder(role)),
            "HOTLOOP_PORT": str(self.port),
            "HOTLOOP_NODE_ID": name,
            "HOTLOOP_SHARD_ITEMS": "1000",
            "HOTLOOP_SOURCES": SOURCES,
            "PYTHONPATH": f"{Path(sitecustomize.__file__).parent}:{ROOT}",
            sitecustomize.CLOCK_VARIABLE: str(self.clock.file),
            LOG_VARIABLE: str(self.log),
            WAIT_VARIABLE: str(WAIT_SECONDS),
        } | ROLES[role]
        if self.database is not None:
            way = self.database.linked_url if role == "node" else self.database.url
            settings["HOTLOOP_DATABASE_URL"] = way("postgres")
        environment = plain_environment() | settings
        words = [f"{key}={value}" for key, value in environment.items()]
        command = [str(self.interpreter.path), str(ROOT / "main.py")]
        if role != "api":
            command.append("node")
        write = f'exec "$0" "$@" >>{log} 2>&1'
        process = GuardedProcess(["/bin/sh", "-c", write, "/usr/bin/env", "-i", *words, *command])
        member = self._by_role[role] = Member(role, name, process, log)
        return member

    def revive(self) -> list[Member]:
        """Start the dead members anew, as a supervisor would; returns the new ones at once."""
        dead = [member for member in self.members if not member.process.is_alive]
        for member in dead:
            member.process.kill()
        return [self.start(member.role) for member in dead]

    def wait_up(self, members: Iterable[Member]) -> None:
        """Wait until the API process is ready and nodes take tasks."""
        for member in members:
            if member is self.api:
                wait_until(self.is_ready, "the service is ready", PATIENCE_SECONDS, 0.05)
            else:
                self.wait_listed(member)

    def dismiss(self, role: str) -> None:
        """End a member in order, if it is there."""
        if role in self._by_role:
            self._end([self._by_role[role]])
            del self._by_role[role]

    def data_folder(self, role: str) -> Path:
        """Members that share an SQLite file share its folder; others have one each."""
        return self.folder / ("data" if self.database is None else f"data-{role}")

    def member(self, shard: Shard) -> Member | None:
        """The member that executes the shard, if it is up."""
        name = (shard.node or "").partition(":")[0]
        return next((member for member in self.members if member.name == name), None)

    def is_ready(self) -> bool:
        assert self.api.process.is_alive, self.api.log.read_text()
        with suppress(httpx.HTTPError):
            return self.client.get("/health/ready").status_code == 200
        return False

    def is_listed(self, member: Member) -> bool:
        """True if the other members count it as alive; a node that was declared dead must join
        again.
        """
        assert member.process.is_alive, member.log.read_text()
        return any(node.claimed_by is None for node in self._listed(member))

    def is_adopted(self, member: Member) -> bool:
        """True if the work of a dead member is back in the queue."""
        return not self._listed(member)

    def wait_listed(self, member: Member) -> None:
        wait_until(
            lambda: self.is_listed(member), f"{member.name} is listed", PATIENCE_SECONDS, 0.02
        )

    def look(self) -> None:
        for member in self.members:
            self.seen.update(member.below())

    def stop(self) -> None:
        """Stop all members in order, and check that no process is left."""
        self._end(list(self.members))
        wait_until(lambda: all(map(is_gone, self.seen)), "no process is left")

    def kill(self) -> None:
        """Kill all members; for the end of a test."""
        self.interpreter.put_back()
        for member in self.members:
            member.process.kill()
        self.client.close()
        self.store.close()

    def _end(self, members: list[Member]) -> None:
        self.look()
        for member in members:
            member.process.send_signal(signal.SIGTERM)
        what = f"{', '.join(member.name for member in members)} ended"
        wait_until(
            lambda: not any(member.process.is_alive for member in members), what, PATIENCE_SECONDS
        )
        for member in members:
            member.process.kill()

    def _listed(self, member: Member) -> list[Node]:
        return [n for n in self._nodes.list() if n.node_id.partition(":")[0] == member.name]

    def _location(self) -> Path | str:
        if self.database is None:
            return self.data_folder("api")
        return self.database.url("postgres")


@contextmanager
def running_cluster(folder: Path, database: MortalPostgres | None) -> Iterator[Cluster]:
    """A cluster on the database, or on an SQLite file without one."""
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
