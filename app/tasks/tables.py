"""The tables of the task store: the same for SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
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
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from hotloop.app.names import TaskStatus

SCHEMA_VERSION: Final = 6
"""Raised with every change, which gets a step in `hotloop.app.tasks.migrations`."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time, in UTC; SQLite, which knows no time zones, gets it without."""

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
    """Text to the database, so that a state more needs no change of its types. One that this
    version does not know is read as failed: nothing here can go on with such a task, and the
    others must still be listed.
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
    # Null of a service where nobody has to say who they are.
    Column("client", String(255)),
    Column("idempotency_key", String(255)),
    Column("request_hash", String(64)),
    # [[name, dtype], …] of the output columns in `results`; null before the first execution.
    Column("result_columns", JSON(none_as_null=True)),
    # Of the input as it was accepted: the upload, or the item file.
    Column("input_sha256", String(64)),
    # What the task takes of its client's room: its input, its results, and those still to come.
    Column("stored_bytes", BigInteger, nullable=False, server_default="0"),
    # Results of one item, as they are stored.
    Column("item_bytes", Integer, nullable=False, server_default="0"),
    Index("tasks_newest", "created_at", "task_id"),
    Index("tasks_of_client", "client", "created_at"),
    Index("tasks_stored", "client", "stored_bytes"),
    # What a client has asked for and not got yet, whatever else is kept.
    Index(
        "tasks_unfinished",
        "client",
        sqlite_where=text("end_time IS NULL"),
        postgresql_where=text("end_time IS NULL"),
    ),
)

# Nulls differ from each other for a database, and nobody is one client here.
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
    # Its place in the queue, unix seconds, until it has ended; null for what is not queued.
    Column("queued_at", Float(53)),
    # Executions begun since it last made progress: how often that may happen is bounded.
    Column("beginnings", Integer, nullable=False, server_default="0"),
    # Not claimed before, unix seconds; null for at once.
    Column("retry_at", Float(53)),
    # Abilities that a node must have, see `app.tasks.needs`; null while nobody has worked them out.
    Column("needs", Text),
    # Memory that a run of it needs; null where it is not known.
    Column("needs_bytes", BigInteger),
    # All that the queue asks, whatever else is kept: who waits, and who holds what.
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

inputs: Final = Table(
    "inputs",
    metadata,
    Column(
        "task_id", String(64), ForeignKey(tasks.c.task_id, ondelete="CASCADE"), primary_key=True
    ),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
"""The file that a task's items come from, in parts; there only where nodes share no disk."""

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
