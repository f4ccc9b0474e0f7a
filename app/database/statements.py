"""Insertion of many rows by a statement that is made once.

SQLAlchemy keys, compiles and converts anew for each execution: for a small row that takes several
times as long as the database does. And in SQLite each statement, and the begin and the end of a
transaction, lets go of the GIL: a thread then waits for it again, for up to milliseconds while the
event loop has work. So rows of several tables are inserted there by a single statement, which is a
transaction by itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import JSON, Engine, PoolProxiedConnection, Table, insert

from hotloop.app.database.engine import single_statement, writing

Row = dict[str, Any]
"""The values of a row by the names of its columns, as the driver takes them."""

MOST_GROUPS: Final = 64
"""Groups that are inserted at once."""


class Insertion:
    """Inserts groups of rows: each group has a row for each of some tables, in their order."""

    def __init__(self, engine: Engine, tables: Sequence[Table]) -> None:
        self._engine = engine
        self._names = [[column.name for column in table.c] for table in tables]
        self._convert = [_converters(table, engine) for table in tables]
        if engine.dialect.name != "sqlite":
            self._texts = [
                str(insert(table).compile(dialect=engine.dialect, column_keys=names))
                for table, names in zip(tables, self._names, strict=True)
            ]
            return
        self._view = f"insert_{'_'.join(table.name for table in tables)}"
        self._preparing = _view_of(self._view, tables)
        row = f"({', '.join(['?'] * sum(map(len, self._names)))})"
        self._texts = [
            f"INSERT INTO {self._view} VALUES {', '.join([row] * count)}"
            for count in range(MOST_GROUPS + 1)
        ]

    def converted(self, place: int, values: Mapping[str, Any]) -> Row:
        """Convert the values of some columns of the table at `place` for the driver."""
        convert = self._convert[place]
        return {n: convert[n](v) if n in convert else v for n, v in values.items()}

    def execute(self, groups: Sequence[Sequence[Row]]) -> None:
        """Insert 1 … MOST_GROUPS groups in one transaction. Each row has all columns of its table,
        converted. Blocks; raises the errors of `writing`.
        """
        if self._engine.dialect.name != "sqlite":
            with writing(self._engine) as connection:
                for place, text in enumerate(self._texts):
                    connection.exec_driver_sql(text, [group[place] for group in groups])
            return
        values = [
            row[name]
            for group in groups
            for names, row in zip(self._names, group, strict=True)
            for name in names
        ]
        with single_statement(self._engine) as pooled:
            self._prepare(pooled)
            pooled.driver_connection.execute(self._texts[len(groups)], values)  # type: ignore[union-attr]

    def _prepare(self, pooled: PoolProxiedConnection) -> None:
        if self._view not in pooled.info:
            for statement in self._preparing:
                pooled.driver_connection.execute(statement)  # type: ignore[union-attr]
            pooled.info[self._view] = True


def _converters(table: Table, engine: Engine) -> dict[str, Callable[[Any], Any]]:
    found: dict[str, Callable[[Any], Any]] = {}
    for column in table.c:
        if isinstance(column.type, JSON):
            found[column.name] = _json_or_null
        elif convert := column.type.dialect_impl(engine.dialect).bind_processor(engine.dialect):
            found[column.name] = convert
    return found


def _json_or_null(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _view_of(name: str, tables: Sequence[Table]) -> list[str]:
    """Return the statements that make a view of a connection's own; a row that is inserted into it
    becomes a row of each table.
    """
    columns = [f"{table.name}_{column.name}" for table in tables for column in table.c]
    nothing = ", ".join(f"NULL AS {column}" for column in columns)
    insertions = "".join(
        f"INSERT INTO {table.name} ({', '.join(_quoted(column.name) for column in table.c)}) "
        f"VALUES ({', '.join(f'NEW.{table.name}_{column.name}' for column in table.c)}); "
        for table in tables
    )
    return [
        f"CREATE TEMP VIEW {name} AS SELECT {nothing}",
        f"CREATE TEMP TRIGGER {name}_rows INSTEAD OF INSERT ON {name} BEGIN {insertions}END",
    ]


def _quoted(name: str) -> str:
    return f'"{name}"'
