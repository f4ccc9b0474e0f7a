"""The tables of the task store, the same for SQLite and PostgreSQL, and how they come to be.

Tables are made where there are none, and converted where an earlier version made them. A step of
the conversion never changes once it is released: its SQL is written out, because the tables here
are those of the newest schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from hotloop.app.errors import StoreError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.engine import slow

SCHEMA_VERSION: Final = 6
"""Raised with every change of a table; each change needs a step in `_STEPS`."""

OLDEST_VERSION: Final = 5
"""The oldest schema that can be converted: that of version 0.1.0."""

_LOCK_SECONDS: Final = 30
"""How long PostgreSQL waits for the transactions of other processes before a table is changed."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite knows no time zones, so it gets the time without one."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert isinstance(value, datetime)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class _Status(TypeDecorator[TaskStatus]):
    """A task's state, stored as text so that a new state needs no new database type.

    A state that this version does not know is read as failed: this version cannot continue such a
    task, and the list of tasks must still work.
    """

    impl = String(16)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else TaskStatus(value).value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> TaskStatus | None:
        if value is None:
            return None
        try:
            return TaskStatus(value)
        except ValueError:
            return TaskStatus.FAILED


_STATUS: Final = _Status()

metadata: Final = MetaData()

schema: Final = Table(
    "hotloop_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
)

tasks: Final = Table(
    "tasks",
    metadata,
    Column("task_id", String(64), primary_key=True),
    Column("task_type", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("status", _STATUS, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("workload", String(64), nullable=False),
    Column("kernel", String(64), nullable=False),
    Column("strategy", String(64), nullable=False),
    Column("total_items", BigInteger, nullable=False),
    Column("items_processed", BigInteger, nullable=False),
    Column("failed_items", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("start_time", UtcDateTime),
    Column("end_time", UtcDateTime),
    Column("owner", String(128), nullable=False),
    Column("measurements", JSON(none_as_null=True)),
    Column("error_code", String(64)),
    Column("error_message", Text),
    Column("estimated_seconds", Float),
    # Null where the service knows no clients.
    Column("client", String(255)),
    Column("idempotency_key", String(255)),
    Column("request_hash", String(64)),
    # [[name, dtype], …] of the output columns in `results`; null before the first execution.
    Column("result_columns", JSON(none_as_null=True)),
    # Of the input as it was accepted: the upload, or the item file.
    Column("input_sha256", String(64)),
    # Bytes that count against the client's limit: input, results, and results still to come.
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    # Stored bytes of one item's results.
    Column("item_bytes", Integer, nullable=False, server_default="0"),
    Index("tasks_newest", "created_at", "task_id"),
    Index("tasks_of_client", "client", "created_at"),
    Index("tasks_stored", "client", "stored_bytes"),
    # Finds a client's unfinished tasks, however many finished ones are kept.
    Index(
        "tasks_unfinished",
        "client",
        sqlite_where=text("end_time IS NULL"),
        postgresql_where=text("end_time IS NULL"),
    ),
)

# A database takes every null for another value; here all tasks without a client have the same one.
Index("tasks_by_key", func.coalesce(tasks.c.client, ""), tasks.c.idempotency_key, unique=True)

shards: Final = Table(
    "shards",
    metadata,
    Column(
        "task_id", String(64), ForeignKey(tasks.c.task_id, ondelete="CASCADE"), primary_key=True
    ),
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("start", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("status", _STATUS, nullable=False),
    Column("generation", Integer, nullable=False),
    # Raised by every execution: what an earlier one still writes is refused.
    Column("attempt", Integer, nullable=False),
    Column("node", String(160)),
    Column("items_processed", BigInteger, nullable=False),
    Column("failed_items", BigInteger, nullable=False),
    Column("details", JSON(none_as_null=True)),
    Column("error_code", String(64)),
    Column("error_message", Text),
    # Its place in the queue, unix seconds, until it ends; null for a shard that is not queued.
    Column("queued_at", Float(53)),
    # Executions begun since it last made progress; bounded by MAX_BEGINNINGS.
    Column("beginnings", Integer, nullable=False, server_default="0"),
    # May be claimed from this time on, unix seconds; null for at once.
    Column("retry_at", Float(53)),
    # Abilities that a node must have, see `app.tasks.needs`; null until they are worked out.
    Column("needs", Text),
    # Bytes of memory that a run of it needs; null where that is not known.
    Column("needs_bytes", BigInteger),
    # Serves all questions of the queue: which shards wait, and which node holds which.
    Index(
        "shards_queued",
        "node",
        "queued_at",
        "task_id",
        "shard",
        sqlite_where=text("queued_at IS NOT NULL"),
        postgresql_where=text("queued_at IS NOT NULL"),
    ),
)
"""A row for each shard of a task, at least one; it goes with its task."""

nodes: Final = Table(
    "nodes",
    metadata,
    Column("node_id", String(128), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("machine", String(128), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("owner", String(64), nullable=False),
    Column("role", String(32), nullable=False),
    Column("joined_at", Float(53), nullable=False),
    Column("beat_at", Float(53), nullable=False),
    Column("claimed_by", String(128)),
    # See `hotloop.app.tasks.needs.Abilities`; null while the node is starting.
    Column("abilities", JSON(none_as_null=True)),
)
"""A row for each process that shares the database, see `hotloop.app.tasks.nodes`."""

clock: Final = Table(
    "clock",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # Unix seconds of the database's clock.
    Column("seen_at", Float(53), nullable=False),
    Column("doubted_until", Float(53), nullable=False),
)
"""A single row, see `hotloop.app.tasks.upkeep.SteadyClock`."""

inputs: Final = Table(
    "inputs",
    metadata,
    Column(
        "task_id", String(64), ForeignKey(tasks.c.task_id, ondelete="CASCADE"), primary_key=True
    ),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
"""The file that a task's items come from, in parts; filled only where nodes share no disk."""

results: Final = Table(
    "results",
    metadata,
    Column(
        "task_id", String(64), ForeignKey(tasks.c.task_id, ondelete="CASCADE"), primary_key=True
    ),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("crc32", BigInteger, nullable=False),
    Column("rows", LargeBinary, nullable=False),
)
"""A row for each chunk, see `hotloop.app.tasks.chunks`; it goes with its task."""


def prepare_schema(connection: Connection) -> None:
    """Make the tables, or convert those of an earlier version, within the caller's transaction.

    The caller holds the lock `app.tasks.engine.alone`. Raises StoreError, and changes nothing, when
    the schema is newer or too old.
    """
    has_table = inspect(connection).has_table
    if not has_table(schema.name):
        metadata.create_all(connection)
        connection.execute(insert(schema).values(version=SCHEMA_VERSION))
        return
    version: int | None = connection.scalar(select(func.max(schema.c.version)))
    if version is None or version > SCHEMA_VERSION:
        raise StoreError(
            f"the task store was made by a newer version of the service (its schema is {version}, "
            f"this one knows {SCHEMA_VERSION}); start that version, or use another data folder"
        )
    if version < OLDEST_VERSION:
        raise StoreError(
            f"the task store was made before version 0.1.0 (its schema is {version}; the oldest "
            f"that can be converted is {OLDEST_VERSION}). No version converts it: let the version "
            "that made it finish its tasks, and use another data folder with this one"
        )
    if version < SCHEMA_VERSION:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        with slow(connection):
            for number in range(version, SCHEMA_VERSION):
                _STEPS[number](connection)
        metadata.create_all(connection)  # tables that are new since then
        connection.execute(update(schema).values(version=SCHEMA_VERSION))
    elif not has_table(clock.name):
        clock.create(connection)


def _add_needs_and_sizes(connection: Connection) -> None:
    added = {
        "tasks": (
            "stored_bytes BIGINT DEFAULT '0' NOT NULL",
            "input_sha256 VARCHAR(64)",
            "item_bytes INTEGER DEFAULT '0' NOT NULL",
        ),
        "shards": (
            "beginnings INTEGER DEFAULT '0' NOT NULL",
            "retry_at FLOAT",
            "needs TEXT",
            "needs_bytes BIGINT",
        ),
        "nodes": ("abilities JSON",),
    }
    for table, columns in added.items():
        if inspect(connection).has_table(table):  # a store without nodes has no such table
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
    connection.exec_driver_sql("CREATE INDEX tasks_stored ON tasks (client, stored_bytes)")


_STEPS: Final[Mapping[int, Callable[[Connection], None]]] = MappingProxyType(
    {5: _add_needs_and_sizes}
)
"""The step from each schema to the next, by the number of the schema that it begins with."""
