"""Statements that are made once, and executed for many rows at a time.

SQLAlchemy keys, compiles and converts anew for each execution: for a small row that takes several
times as long as the database does. And in SQLite each statement, and the begin and the end of a
transaction, lets go of the GIL: a thread then waits for it again, for up to milliseconds while the
event loop has work. So all statements for all rows are a single statement there, an insertion into
a view whose trigger does the work, and it is a transaction by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import JSON, BindParameter, Engine, Insert, Table, bindparam, insert
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

from hotloop.app.database.engine import single_statement, writing

Row = dict[str, Any]
"""Values by the names of parameters, as the driver takes them."""

_PARAMETER: Final = re.compile(r":([a-z_0-9]+)")

MOST_ROWS: Final = 64
"""Rows for which the statements are executed at once."""


class RowStatements:
    """Executes some statements for each of many rows: the first for all rows, then the second …
    in PostgreSQL; all for the first row, then all for the second … in SQLite.
    """

    def __init__(self, engine: Engine, name: str, statements: Sequence[Executable]) -> None:
        """`name` is that of no table. The statements have all values as parameters, whose names
        are columns of a row. Raises ValueError for a value without a name.
        """
        self._engine = engine
        dialect = engine.dialect
        is_sqlite = dialect.name == "sqlite"
        made = [
            _compiled(s, sqlite.dialect(paramstyle="named") if is_sqlite else dialect)
            for s in statements
        ]
        parameters: dict[str, BindParameter[Any]] = {}
        for each in made:
            parameters |= each.binds
        self._names = list(parameters)
        if unnamed := [name for name in self._names if not name.isidentifier()]:
            raise ValueError(f"the statements of {name} have values without a name: {unnamed}")
        self._convert = {
            name: convert
            for name, parameter in parameters.items()
            if (convert := _converter(parameter, engine)) is not None
        }
        if not is_sqlite:
            self._texts = [str(each) for each in made]
            return
        self._view = f"rows_{name}"
        self._preparing = _view(self._view, self._names, [str(each) for each in made])
        row = f"({', '.join(['?'] * len(self._names))})"
        self._texts = [
            f"INSERT INTO {self._view} VALUES {', '.join([row] * count)}"
            for count in range(MOST_ROWS + 1)
        ]

    def converted(self, values: Mapping[str, Any]) -> Row:
        """Convert some values for the driver."""
        convert = self._convert
        return {n: convert[n](v) if n in convert else v for n, v in values.items()}

    def execute(self, rows: Sequence[Row]) -> None:
        """Execute the statements for 1 … MOST_ROWS rows in one transaction. Each row has all
        parameters, converted. Blocks; raises the errors of `writing`.
        """
        if self._engine.dialect.name != "sqlite":
            with writing(self._engine) as transaction:
                for text in self._texts:
                    transaction.exec_driver_sql(text, list(rows))
            return
        names = self._names
        values = [row[name] for row in rows for name in names]
        with single_statement(self._engine) as pooled:
            connection: Any = pooled.driver_connection
            if self._view not in pooled.info:
                for statement in self._preparing:
                    connection.execute(statement)
                pooled.info[self._view] = True
            connection.execute(self._texts[len(rows)], values)


def insertion(table: Table) -> Insert:
    """Return the statement that inserts a row; its parameters are `TABLE_COLUMN`."""
    return insert(table).values(
        {c.name: bindparam(parameter_of(table, c.name), type_=c.type) for c in table.c}
    )


def parameter_of(table: Table, column: str) -> str:
    """Return the name of the parameter of `insertion` for a column."""
    return f"{table.name}_{column}"


def _compiled(statement: Executable, dialect: Any) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
    assert isinstance(compiled, SQLCompiler)
    return compiled


def _converter(parameter: BindParameter[Any], engine: Engine) -> Callable[[Any], Any] | None:
    if isinstance(parameter.type, JSON):
        return _json_or_null
    implementation = parameter.type.dialect_impl(engine.dialect)
    convert: Callable[[Any], Any] | None = implementation.bind_processor(engine.dialect)
    return convert


def _json_or_null(value: Any) -> str | None:
    return None if value is None else json.dumps(value)


def _view(name: str, names: Sequence[str], statements: Sequence[str]) -> list[str]:
    """Return the statements that make a view of a connection's own, into which rows are inserted,
    and the trigger that executes `statements` for each.
    """
    nothing = ", ".join(f"NULL AS {column}" for column in names)
    work = " ".join(_PARAMETER.sub(r"NEW.\1", text) + ";" for text in statements)
    return [
        f"CREATE TEMP VIEW {name} AS SELECT {nothing}",
        f"CREATE TEMP TRIGGER {name}_work INSTEAD OF INSERT ON {name} BEGIN {work} END",
    ]
