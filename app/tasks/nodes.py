"""The nodes: processes that take background work, and which of them are dead.

Times are those of the database's clock, so that the clocks of machines may differ. A process is
named by its pid and its start, as pids come again, in a restarted container at once. The start is
in clock ticks since the machine booted: seconds since 1970 depend on the system's clock, and when
that is set, every process would seem to be another one.
"""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import psutil
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.engine import reading, writing
from hotloop.app.tasks.claims import holders
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.tables import nodes as _nodes

BEAT_SECONDS: Final = 2.0
"""Time between two heartbeats of a node."""
DEAD_SECONDS: Final = 8.0
"""Time without a heartbeat after which a node counts as dead."""

_SAME_START_SECONDS: Final = 1.0
"""Start times in unix seconds that differ by less are the same."""

_STATE_FIELD, _TICK_FIELD = 0, 19
"""The places of fields 3 and 22 of /proc/PID/stat, of those that follow the name."""

_NOW: Final = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from clock_timestamp())::double precision",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A process, as it has announced itself. Times are unix seconds of the database's clock."""

    node_id: str
    host: str
    machine: str
    """The scope of `pid`: one boot of one machine, one container."""
    pid: int
    owner: str
    """The process and its start, see `current_owner`."""
    role: str
    joined_at: float
    beat_at: float
    claimed_by: str | None
    """The node that adopts its work because it is dead."""


def now_of(dialect: Dialect) -> sa.ColumnElement[float]:
    """The database's clock in unix seconds, as an expression for statements."""
    return sa.literal_column(_NOW[dialect.name], sa.Float(53))


def new_node_id(name: str | None) -> str:
    """Make an id for this process: `name`, or the host's, and eight random digits."""
    return f"{name or platform.node() or 'node'}:{secrets.token_hex(4)}"


class NodeStore:
    """The nodes, and this process as one of them. All methods block, may be called from any thread,
    and raise StoreError when the database cannot be used.
    """

    def __init__(self, engine: sa.Engine, node_id: str, role: str) -> None:
        """`engine` is that of a TaskStore; `role` names what the process does. It is a node from
        its first `beat` on.
        """
        self._engine = engine
        self.node_id = node_id
        self._role = role
        self._abilities: dict[str, Any] | None = None
        self._joined = False
        self._is_able = True
        self._calm_since = time.monotonic()
        self._last_beat = time.monotonic()
        self._now = now_of(engine.dialect)

    def beat(self, is_able: bool = True) -> bool:
        """Report that this process lives, and whether it can do now what it has published, for
        which it needs a run host. False when it was declared dead: another node takes its work, and
        it is a node again after `rejoin`.
        """
        self._is_able = is_able
        before, self._last_beat = self._last_beat, time.monotonic()
        if self._last_beat - before > DEAD_SECONDS / 2:
            self._calm_since = self._last_beat  # the others may have been frozen, too
        with writing(self._engine) as connection:
            if not self._joined:
                connection.execute(sa.insert(_nodes).values(self._own_row()))
                self._joined = True
                return True
            mine = _nodes.c.node_id == self.node_id, _nodes.c.claimed_by.is_(None)
            said = {"beat_at": self._now, "abilities": self._published()}
            beaten = connection.execute(sa.update(_nodes).where(*mine).values(said))
            return beaten.rowcount == 1

    def rejoin(self) -> bool:
        """Become a node again after this process was declared dead. False until the node that
        adopts its work has put all of it back.
        """
        try:
            with writing(self._engine) as connection:
                connection.execute(sa.insert(_nodes).values(self._own_row()))
        except IntegrityError:
            return False
        return True

    def publish(self, abilities: Abilities) -> None:
        """Store what this node can do, for the other nodes to read."""
        self._abilities = abilities.to_json()
        with writing(self._engine) as connection:
            mine = _nodes.c.node_id == self.node_id, _nodes.c.claimed_by.is_(None)
            connection.execute(sa.update(_nodes).where(*mine).values(abilities=self._published()))

    def _published(self) -> dict[str, Any] | None:
        return self._abilities if self._is_able else None

    def leave(self) -> None:
        """Stop being a node. Work that it has begun and not ended is adopted at once."""
        self.remove(self.node_id)

    def list(self) -> tuple[Node, ...]:
        """All nodes, dead ones included, the oldest first."""
        with reading(self._engine) as connection:
            return self._read(connection)

    def dead(self, after_seconds: float = DEAD_SECONDS) -> tuple[Node, ...]:
        """Nodes whose work may be adopted: their process is gone from this machine, or they sent no
        heartbeat for `after_seconds`. Nodes that another one has claimed are left out while that
        one lives.

        A process that was late itself, or has just begun, gives all other nodes this time first.
        """
        return self.look(after_seconds)[0]

    def look(self, after_seconds: float = DEAD_SECONDS) -> tuple[tuple[Node, ...], tuple[str, ...]]:
        """Return what `dead` does, and the ids of nodes that hold shards and are not listed: they
        have left, or do not know yet that they were declared dead.
        """
        with reading(self._engine) as connection:
            held_by = holders(connection)  # read first: a node is listed before it holds anything
            nodes = self._read(connection)
            now = connection.scalar(sa.select(self._now)) or 0.0
        unknown = held_by.difference(node.node_id for node in nodes) - {self.node_id}
        return self._dead(nodes, now, after_seconds), tuple(sorted(unknown))

    def _dead(self, nodes: tuple[Node, ...], now: float, after_seconds: float) -> tuple[Node, ...]:
        patient = time.monotonic() - self._calm_since < after_seconds
        here = machine()
        gone = {
            node.node_id
            for node in nodes
            if (node.machine == here and not owner_is_alive(node.owner))
            or (not patient and now - node.beat_at > after_seconds)
        } - {self.node_id}
        # A node that this process has claimed and not removed could not be adopted: try again.
        alive = {node.node_id for node in nodes} - gone - {self.node_id}
        return tuple(
            node
            for node in nodes
            if node.claimed_by not in alive
            and (node.node_id in gone or node.claimed_by is not None)
            and node.node_id != self.node_id
        )

    def alive(self) -> set[str]:
        """The ids of the listed nodes that are not dead, and of this one."""
        dead = {node.node_id for node in self.dead()}
        return {node.node_id for node in self.list()} - dead | {self.node_id}

    def claim(self, node: Node) -> bool:
        """Claim a dead node, in order to adopt its work and then `remove` it. Of several processes
        that try, one gets True; none does when the node has sent a heartbeat since it was read.
        """
        as_it_was = (
            _nodes.c.node_id == node.node_id,
            _nodes.c.beat_at == node.beat_at,
            _nodes.c.claimed_by.is_not_distinct_from(node.claimed_by),
        )
        with writing(self._engine) as connection:
            claimed = sa.update(_nodes).where(*as_it_was).values(claimed_by=self.node_id)
            return connection.execute(claimed).rowcount == 1

    def claim_unknown(self, node_id: str) -> bool:
        """Claim, as `claim` does, a node that holds work and is not listed."""
        row = self._own_row() | {"node_id": node_id, "claimed_by": self.node_id}
        try:
            with writing(self._engine) as connection:
                connection.execute(sa.insert(_nodes).values(row))
        except IntegrityError:
            return False
        return True

    def remove(self, node_id: str) -> None:
        """Remove a node from the list."""
        with writing(self._engine) as connection:
            connection.execute(sa.delete(_nodes).where(_nodes.c.node_id == node_id))

    def _own_row(self) -> dict[str, Any]:
        return {
            "node_id": self.node_id,
            "host": platform.node(),
            "machine": machine(),
            "pid": os.getpid(),
            "owner": current_owner(),
            "role": self._role,
            "joined_at": self._now,
            "beat_at": self._now,
            "abilities": self._published(),
        }

    def _read(self, connection: sa.Connection) -> tuple[Node, ...]:
        columns: Iterable[Any] = [_nodes.c[field.name] for field in fields(Node)]
        rows = connection.execute(
            sa.select(*columns).order_by(_nodes.c.joined_at, _nodes.c.node_id)
        )
        return tuple(Node(*row) for row in rows)


def living_abilities(engine: sa.Engine) -> dict[str, Abilities | None]:
    """The abilities of each living node, by its id; None for a node without a run host. Blocks;
    raises StoreError.
    """
    beat_after = now_of(engine.dialect) - DEAD_SECONDS
    alive = _nodes.c.claimed_by.is_(None), _nodes.c.beat_at >= beat_after
    with reading(engine) as connection:
        stored = connection.execute(sa.select(_nodes.c.node_id, _nodes.c.abilities).where(*alive))
        return {
            row.node_id: None if row.abilities is None else Abilities.from_json(row.abilities)
            for row in stored
        }


def machine() -> str:
    """Name the scope of this machine's pids, as hosts and containers may share a name.

    It also names the unit of starts in `current_owner`: a process of a version with another unit
    counts as dead only after its silence.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        where = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        where = platform.node()
    return f"{where} ticks" if counts_ticks() else where


def current_owner() -> str:
    """Name this process: `<pid>:<start>`, where the start is in clock ticks since the machine
    booted, or in unix seconds where the system does not tell ticks.
    """
    pid = os.getpid()
    if counts_ticks():
        return f"{pid}:{_stat(pid)[_TICK_FIELD]}"
    return f"{pid}:{psutil.Process(pid).create_time():.3f}"


def counts_ticks() -> bool:
    """Return True if starts are in clock ticks: only texts of `current_owner` with the same unit
    can be compared.
    """
    return Path("/proc/self/stat").exists()


def owner_is_alive(owner: str) -> bool:
    """Return True if the process that `current_owner` named, in this boot of this machine, still
    runs. False for text that names no process. A process that may not be inspected counts as alive.
    """
    pid, _, started = owner.partition(":")
    try:
        number = int(pid)
        if number <= 0:
            return False
        return _runs(number, started) if counts_ticks() else _has_run_since(number, started)
    except (PermissionError, psutil.AccessDenied):
        return True
    except (OSError, psutil.Error, ValueError, OverflowError):
        return False


def _runs(pid: int, tick: str) -> bool:
    try:
        fields = _stat(pid)
    except FileNotFoundError:
        os.kill(pid, 0)  # PermissionError: it is another user's, and hidden
        return False
    return fields[_STATE_FIELD] not in ("Z", "X") and fields[_TICK_FIELD] == tick


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    return text.rpartition(")")[2].split()


def _has_run_since(pid: int, started: str) -> bool:
    """Compare times: systems without /proc keep the time of a process's start as it was then."""
    process = psutil.Process(pid)
    if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return False
    begun: float = process.create_time()
    return abs(begun - float(started)) < _SAME_START_SECONDS
