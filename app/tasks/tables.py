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

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from hotloop.app.database.engine import slow
from hotloop.app.errors import StoreError
from hotloop.app.names import TaskStatus

SCHEMA_VERSION: Final = 7
"""Raised with every change of a table; each change needs a step in `_STEPS`."""

OLDEST_VERSION: Final = 5
"""The oldest schema that can be converted: that of version 0.1.0."""

_LOCK_SECONDS: Final = 30
"""Time that PostgreSQL waits for transactions of other processes before it changes a table."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC. SQLite knows no time zones, so it gets the time without one."""

    impl = sa.DateTime(timezone=True)
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

    impl = sa.String(16)
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

metadata: Final = sa.MetaData()

schema: Final = sa.Table(
    "hotloop_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

tasks: Final = sa.Table(
    "tasks",
    metadata,
    sa.Column("task_id", sa.String(64), primary_key=True),
    sa.Column("task_type", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("status", _STATUS, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("workload", sa.String(64), nullable=False),
    sa.Column("kernel", sa.String(64), nullable=False),
    sa.Column("strategy", sa.String(64), nullable=False),
    sa.Column("total_items", sa.BigInteger, nullable=False),
    sa.Column("items_processed", sa.BigInteger, nullable=False),
    sa.Column("failed_items", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("start_time", UtcDateTime),
    sa.Column("end_time", UtcDateTime),
    sa.Column("owner", sa.String(128), nullable=False),
    sa.Column("measurements", sa.JSON(none_as_null=True)),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error_message", sa.Text),
    sa.Column("estimated_seconds", sa.Float),
    # Null where the service knows no clients.
    sa.Column("client", sa.String(255)),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("request_hash", sa.String(64)),
    # [[name, dtype], …] of the output columns in `results`; null before the first execution.
    sa.Column("result_columns", sa.JSON(none_as_null=True)),
    # Of the input as it was accepted: the upload, or the item file.
    sa.Column("input_sha256", sa.String(64)),
    # Bytes that count against the client's limit: input, results, and results still to come.
    sa.Column("stored_bytes", sa.BigInteger, nullable=False, server_default="0"),
    # Stored bytes of one item's results.
    sa.Column("item_bytes", sa.Integer, nullable=False, server_default="0"),
    sa.Index("tasks_newest", "created_at", "task_id"),
    sa.Index("tasks_of_client", "client", "created_at"),
    sa.Index("tasks_stored", "client", "stored_bytes"),
    # Finds a client's unfinished tasks, however many finished ones are kept.
    sa.Index(
        "tasks_unfinished",
        "client",
        sqlite_where=sa.text("end_time IS NULL"),
        postgresql_where=sa.text("end_time IS NULL"),
    ),
)

# A database takes every null for another value; here all tasks without a client have the same one.
sa.Index(
    "tasks_by_key",
    sa.func.coalesce(tasks.c.client, ""),
    tasks.c.idempotency_key,
    unique=True,
    sqlite_where=sa.text("idempotency_key IS NOT NULL"),
    postgresql_where=sa.text("idempotency_key IS NOT NULL"),
)

shards: Final = sa.Table(
    "shards",
    metadata,
    sa.Column(
        "task_id",
        sa.String(64),
        sa.ForeignKey(tasks.c.task_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("shard", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("start", sa.BigInteger, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("status", _STATUS, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    # Raised by every execution: what an earlier one still writes is refused.
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("node", sa.String(160)),
    sa.Column("items_processed", sa.BigInteger, nullable=False),
    sa.Column("failed_items", sa.BigInteger, nullable=False),
    sa.Column("details", sa.JSON(none_as_null=True)),
    sa.Column("error_code", sa.String(64)),
    sa.Column("error_message", sa.Text),
    # Its place in the queue, unix seconds, until it ends; null for a shard that is not queued.
    sa.Column("queued_at", sa.Float(53)),
    # Executions begun since it last made progress; bounded by MAX_BEGINNINGS.
    sa.Column("beginnings", sa.Integer, nullable=False, server_default="0"),
    # May be claimed from this time on, unix seconds; null for at once.
    sa.Column("retry_at", sa.Float(53)),
    # Abilities that a node must have, see `app.tasks.needs`; null until they are worked out.
    sa.Column("needs", sa.Text),
    # Bytes of memory that a run of it needs; null where that is not known.
    sa.Column("needs_bytes", sa.BigInteger),
    # Its place in the queue before `queued_at`: the task's priority, negated.
    sa.Column("rank", sa.Integer, nullable=False, server_default="0"),
    # Equal for tasks that one kernel call may compute, see `app.tasks.small`; null for others.
    sa.Column("small", sa.String(32)),
    # Serves all questions of the queue: which shards wait, and which node holds which.
    sa.Index(
        "shards_queued",
        "node",
        "rank",
        "queued_at",
        "task_id",
        "shard",
        sqlite_where=sa.text("queued_at IS NOT NULL"),
        postgresql_where=sa.text("queued_at IS NOT NULL"),
    ),
)
"""A row for each shard of a task, at least one; it goes with its task."""

nodes: Final = sa.Table(
    "nodes",
    metadata,
    sa.Column("node_id", sa.String(128), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("machine", sa.String(128), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("joined_at", sa.Float(53), nullable=False),
    sa.Column("beat_at", sa.Float(53), nullable=False),
    sa.Column("claimed_by", sa.String(128)),
    # See `hotloop.app.tasks.needs.Abilities`; null while the node is starting.
    sa.Column("abilities", sa.JSON(none_as_null=True)),
)
"""A row for each process that shares the database, see `hotloop.app.tasks.nodes`."""

clock: Final = sa.Table(
    "clock",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # Unix seconds of the database's clock.
    sa.Column("seen_at", sa.Float(53), nullable=False),
    sa.Column("doubted_until", sa.Float(53), nullable=False),
)
"""A single row, see `hotloop.app.tasks.upkeep.SteadyClock`."""

inputs: Final = sa.Table(
    "inputs",
    metadata,
    sa.Column(
        "task_id",
        sa.String(64),
        sa.ForeignKey(tasks.c.task_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
"""The file that a task's items come from, in parts: if it is small, or if nodes share no disk."""

webhooks: Final = sa.Table(
    "webhooks",
    metadata,
    sa.Column(
        "task_id",
        sa.String(64),
        sa.ForeignKey(tasks.c.task_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    # Of the task's end; raised by a resume, so that the next end is told, too.
    sa.Column("number", sa.Integer, nullable=False, server_default="0"),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    # The next attempt may begin from this time on, unix seconds; null once there is none.
    sa.Column("next_at", sa.Float(53)),
    sa.Column("delivered_at", UtcDateTime),
    sa.Column("error", sa.Text),
    sa.Index("webhooks_due", "next_at"),
)
"""A row for each task whose end is told to a URL, see `app.tasks.webhooks`."""

results: Final = sa.Table(
    "results",
    metadata,
    sa.Column(
        "task_id",
        sa.String(64),
        sa.ForeignKey(tasks.c.task_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("failed", sa.Integer, nullable=False),
    sa.Column("crc32", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.LargeBinary, nullable=False),
)
"""A row for each chunk, see `hotloop.app.tasks.chunks`; it goes with its task."""

# PostgreSQL would try to compress the rows: that takes ten times as long as storing them, and gains
# little, as most of the bytes are those of floats.
_PLAIN_ROWS: Final = "ALTER TABLE results ALTER COLUMN rows SET STORAGE EXTERNAL"
_DDL: Final = sa.DDL(_PLAIN_ROWS)  # type: ignore[no-untyped-call]
sa.event.listen(results, "after_create", _DDL.execute_if(dialect="postgresql"))


def prepare_schema(connection: sa.Connection) -> None:
    """Make the tables, or convert those of an earlier version, within the caller's transaction.

    The caller holds the lock `app.database.engine.alone`. Raises StoreError, and changes nothing,
    when the schema is newer or too old.
    """
    has_table = sa.inspect(connection).has_table
    if not has_table(schema.name):
        metadata.create_all(connection)
        connection.execute(sa.insert(schema).values(version=SCHEMA_VERSION))
        return
    version: int | None = connection.scalar(sa.select(sa.func.max(schema.c.version)))
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
        connection.execute(sa.update(schema).values(version=SCHEMA_VERSION))
    elif not has_table(clock.name):
        clock.create(connection)


def _add_needs_and_sizes(connection: sa.Connection) -> None:
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
        if sa.inspect(connection).has_table(table):  # a store without nodes has no such table
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
    connection.exec_driver_sql("CREATE INDEX tasks_stored ON tasks (client, stored_bytes)")


def _add_ranks(connection: sa.Connection) -> None:
    run = connection.exec_driver_sql
    run("ALTER TABLE shards ADD COLUMN rank INTEGER DEFAULT '0' NOT NULL")
    run("ALTER TABLE shards ADD COLUMN small VARCHAR(32)")
    run("DROP INDEX shards_queued")
    run(
        "CREATE INDEX shards_queued ON shards (node, rank, queued_at, task_id, shard) "
        "WHERE queued_at IS NOT NULL"
    )
    run("DROP INDEX tasks_by_key")
    run(
        "CREATE UNIQUE INDEX tasks_by_key ON tasks (coalesce(client, ''), idempotency_key) "
        "WHERE idempotency_key IS NOT NULL"
    )
    if connection.dialect.name == "postgresql":
        run("ALTER TABLE results ALTER COLUMN rows SET STORAGE EXTERNAL")


_STEPS: Final[Mapping[int, Callable[[sa.Connection], None]]] = MappingProxyType(
    {5: _add_needs_and_sizes, 6: _add_ranks}
)
"""The step from each schema to the next, by the number of the schema that it begins with."""
