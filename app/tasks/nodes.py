"""The nodes: processes that take background work, and which of them are dead.

Times are those of the database's clock, so that it does not matter what the clocks of machines say.
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

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Float,
    delete,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import IntegrityError

from hotloop.app.tasks.claims import holders
from hotloop.app.tasks.engine import alone, reading, writing
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.owner import counts_ticks, current_owner, owner_is_alive
from hotloop.app.tasks.tables import nodes as _nodes

BEAT_SECONDS: Final = 2.0
"""Between two heartbeats of a node."""
DEAD_SECONDS: Final = 8.0
"""Without a heartbeat, after which a node counts as dead."""

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
    """Where `pid` means something: one boot of one machine, one container."""
    pid: int
    owner: str
    """The process, see `hotloop.app.tasks.owner`."""
    role: str
    joined_at: float
    beat_at: float
    claimed_by: str | None
    """The node that adopts its work, for it is dead."""


def now_of(dialect: Dialect) -> ColumnElement[float]:
    """The database's clock, unix seconds, for use in a statement."""
    return literal_column(_NOW[dialect.name], Float(53))


def new_node_id(name: str | None) -> str:
    """An id for this start of this process: `name`, or the host's, and eight random digits."""
    return f"{name or platform.node() or 'node'}:{secrets.token_hex(4)}"


class NodeStore:
    """This process among the nodes. All methods block, and may be called from any thread; they
    raise StoreError when the database cannot be used.
    """

    def __init__(self, engine: Engine, node_id: str, role: str) -> None:
        """`engine` is one of `app.tasks.engine.make_engine`; makes the table where it is missing.
        `role` says what the process does. It is a node from its first `beat` on.
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
        with writing(engine) as connection:
            alone(connection)
            _nodes.create(connection, checkfirst=True)

    def beat(self, is_able: bool = True) -> bool:
        """Say that this process lives, and whether it is able to do now what it has published, for
        which it needs a run host; False when it was declared dead: its work is another's, and it is
        a node again once it could `rejoin`.
        """
        self._is_able = is_able
        before, self._last_beat = self._last_beat, time.monotonic()
        if self._last_beat - before > DEAD_SECONDS / 2:
            self._calm_since = self._last_beat  # all may have been frozen, not this one alone
        with writing(self._engine) as connection:
            if not self._joined:
                connection.execute(insert(_nodes).values(self._own_row()))
                self._joined = True
                return True
            mine = _nodes.c.node_id == self.node_id, _nodes.c.claimed_by.is_(None)
            said = {"beat_at": self._now, "abilities": self._published()}
            beaten = connection.execute(update(_nodes).where(*mine).values(said))
            return beaten.rowcount == 1

    def rejoin(self) -> bool:
        """Be a node again, after it was declared dead and its work was put back; False as long as
        whoever does that has not done it.
        """
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(_nodes).values(self._own_row()))
        except IntegrityError:
            return False
        return True

    def publish(self, abilities: Abilities) -> None:
        """Tell the other nodes what this one can do, from now on."""
        self._abilities = abilities.to_json()
        with writing(self._engine) as connection:
            mine = _nodes.c.node_id == self.node_id, _nodes.c.claimed_by.is_(None)
            connection.execute(update(_nodes).where(*mine).values(abilities=self._published()))

    def _published(self) -> dict[str, Any] | None:
        return self._abilities if self._is_able else None

    def leave(self) -> None:
        """Be a node no more. What it has begun and not ended is adopted at once."""
        self.remove(self.node_id)

    def list(self) -> tuple[Node, ...]:
        """All nodes, dead ones too, the oldest first."""
        with reading(self._engine) as connection:
            return self._read(connection)

    def dead(self, after_seconds: float = DEAD_SECONDS) -> tuple[Node, ...]:
        """Nodes whose work may be adopted: their process is gone from this machine, or there was no
        heartbeat for so long. Those that another one has claimed are left to that one, while it
        lives.

        A process that itself was late, or has begun just now, first gives all others this time.
        """
        return self.look(after_seconds)[0]

    def look(self, after_seconds: float = DEAD_SECONDS) -> tuple[tuple[Node, ...], tuple[str, ...]]:
        """What `dead` says; and the ids of those that hold something in the queue and are not
        listed: they have left, or do not know yet that they were declared dead.
        """
        with reading(self._engine) as connection:
            held_by = holders(connection)  # first: whoever holds something was listed then
            nodes = self._read(connection)
            now = connection.scalar(select(self._now)) or 0.0
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
        # What this process has claimed and not removed, it could not adopt; it tries again.
        alive = {node.node_id for node in nodes} - gone - {self.node_id}
        return tuple(
            node
            for node in nodes
            if node.claimed_by not in alive
            and (node.node_id in gone or node.claimed_by is not None)
            and node.node_id != self.node_id
        )

    def alive(self) -> set[str]:
        """The ids of the nodes that are listed and not dead, and of this one."""
        dead = {node.node_id for node in self.dead()}
        return {node.node_id for node in self.list()} - dead | {self.node_id}

    def claim(self, node: Node) -> bool:
        """Take a dead node on, to adopt its work and to `remove` it then. Of several that try, one
        gets True; nobody does when the node has been heard of since it was read.
        """
        as_it_was = (
            _nodes.c.node_id == node.node_id,
            _nodes.c.beat_at == node.beat_at,
            _nodes.c.claimed_by.is_not_distinct_from(node.claimed_by),
        )
        with writing(self._engine) as connection:
            claimed = update(_nodes).where(*as_it_was).values(claimed_by=self.node_id)
            return connection.execute(claimed).rowcount == 1

    def claim_unknown(self, node_id: str) -> bool:
        """The same for a node that is not listed and yet holds work: it has left, or it did not
        know yet that it was dead.
        """
        row = self._own_row() | {"node_id": node_id, "claimed_by": self.node_id}
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(_nodes).values(row))
        except IntegrityError:
            return False
        return True

    def remove(self, node_id: str) -> None:
        """Forget a node."""
        with writing(self._engine) as connection:
            connection.execute(delete(_nodes).where(_nodes.c.node_id == node_id))

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

    def _read(self, connection: Connection) -> tuple[Node, ...]:
        columns: Iterable[Any] = [_nodes.c[field.name] for field in fields(Node)]
        rows = connection.execute(select(*columns).order_by(_nodes.c.joined_at, _nodes.c.node_id))
        return tuple(Node(*row) for row in rows)


def living_abilities(engine: Engine) -> dict[str, Abilities | None]:
    """What each living node can do, by its id; None for a node that has no run host. Blocks; raises
    StoreError.
    """
    now: ColumnElement[float] = literal_column(_NOW[engine.dialect.name], Float(53))
    alive = _nodes.c.claimed_by.is_(None), _nodes.c.beat_at >= now - DEAD_SECONDS
    with reading(engine) as connection:
        stored = connection.execute(select(_nodes.c.node_id, _nodes.c.abilities).where(*alive))
        return {
            row.node_id: None if row.abilities is None else Abilities.from_json(row.abilities)
            for row in stored
        }


def machine() -> str:
    """Where process ids mean what they mean here: hosts and containers may share a name.

    It also says how `current_owner` tells the start of a process: processes of a version that did
    so otherwise are known to be dead by their silence alone.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        where = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # not Linux
        where = platform.node()
    return f"{where} ticks" if counts_ticks() else where
