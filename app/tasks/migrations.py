"""The store's schema: made where there is none, converted where an earlier version made it.

A step never changes once it is released. Its SQL is written out, because the tables in
`hotloop.app.tasks.tables` are those of the newest schema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, func, insert, inspect, select, update

from hotloop.app.errors import StoreError
from hotloop.app.tasks.engine import slow
from hotloop.app.tasks.tables import SCHEMA_VERSION, metadata, schema

OLDEST_VERSION: Final = 5
"""The oldest schema that can be converted: that of version 0.1.0."""

_LOCK_SECONDS: Final = 30
"""How long PostgreSQL waits for the transactions of other processes before a table is changed."""


def prepare_schema(connection: Connection) -> None:
    """Make the tables, or convert those of an earlier version, within the caller's transaction.

    The caller holds the lock `app.tasks.engine.alone`. Raises StoreError when the schema is newer
    or too old; nothing is changed then.
    """
    if not inspect(connection).has_table(schema.name):
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
        metadata.create_all(connection)  # tables that are new since
        connection.execute(update(schema).values(version=SCHEMA_VERSION))


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
        if inspect(connection).has_table(table):  # there may be no nodes
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column}")
    connection.exec_driver_sql("CREATE INDEX tasks_stored ON tasks (client, stored_bytes)")


_STEPS: Final[Mapping[int, Callable[[Connection], None]]] = MappingProxyType(
    {5: _add_needs_and_sizes}
)
"""The step from each schema to the next, by the number of the schema that it begins with."""
