"""Statements for many rows at a time, in SQLite: one transaction, one turn, errors in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from hotloop.app.database.engine import make_engine, reading, writing
from hotloop.app.database.statements import MOST_ROWS, RowStatements, insertion
from hotloop.app.errors import StoreUnavailableError

metadata = sa.MetaData()
people = sa.Table(
    "people",
    metadata,
    sa.Column("name", sa.String(8), primary_key=True),
    sa.Column("facts", sa.JSON(none_as_null=True)),
)
pets = sa.Table(
    "pets",
    metadata,
    sa.Column("owner", sa.ForeignKey(people.c.name), nullable=False),
    sa.Column("order", sa.Integer, nullable=False),
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    made = make_engine(tmp_path, 0.05)
    with writing(made) as connection:
        metadata.create_all(connection)
    yield made
    made.dispose()


def row(both: RowStatements, name: str, order: int | None = 1) -> dict[str, object]:
    return both.converted(
        {
            "people_name": name,
            "people_facts": {"named": f'"{name}"', "é": [1.5, None]},
            "pets_owner": name,
            "pets_order": order,
        }
    )


def count(engine: sa.Engine, table: sa.Table) -> int:
    with reading(engine) as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0


def test_rows_of_two_tables_are_inserted(engine: sa.Engine) -> None:
    both = RowStatements(engine, "both", [insertion(people), insertion(pets)])
    for size in (1, 2, MOST_ROWS):
        both.execute([row(both, f"{size}/{n}", n) for n in range(size)])
    assert count(engine, people) == count(engine, pets) == 3 + MOST_ROWS
    with reading(engine) as connection:
        found = connection.execute(sa.select(people).where(people.c.name == "2/1")).one()
        orders = connection.scalars(sa.select(pets.c.order).where(pets.c.owner == "2/1")).all()
    assert found.facts == {"named": '"2/1"', "é": [1.5, None]}
    assert orders == [1]


def test_failure_of_a_row_leaves_everything_as_it_was(engine: sa.Engine) -> None:
    both = RowStatements(engine, "both", [insertion(people), insertion(pets)])
    with pytest.raises(IntegrityError):
        both.execute([row(both, "a"), row(both, "b", None), row(both, "c")])
    assert count(engine, people) == count(engine, pets) == 0
    with pytest.raises(IntegrityError):
        both.execute([row(both, "a"), row(both, "a")])
    assert count(engine, people) == 0
    both.execute([row(both, "a")])
    assert count(engine, pets) == 1


def test_writer_elsewhere_is_waited_for_and_told_of(engine: sa.Engine, tmp_path: Path) -> None:
    both = RowStatements(engine, "both", [insertion(people), insertion(pets)])
    other = make_engine(tmp_path, 0.05)
    with writing(other), pytest.raises(StoreUnavailableError, match="locked for too long"):
        both.execute([row(both, "a")])
    other.dispose()
    both.execute([row(both, "a")])


def test_condition_is_the_same_for_all_statements(engine: sa.Engine) -> None:
    who = sa.bindparam("who", type_=sa.String(8))
    is_there = sa.exists().where(people.c.name == who)
    changes = RowStatements(
        engine,
        "changes",
        [
            sa.insert(pets).from_select(
                ["owner", "order"], sa.select(who, sa.literal_column("7")).where(is_there)
            ),
            sa.delete(pets).where(pets.c.owner == who, pets.c.order == sa.literal_column("1")),
        ],
    )
    both = RowStatements(engine, "both", [insertion(people), insertion(pets)])
    both.execute([row(both, "a")])
    changes.execute([{"who": "a"}, {"who": "nobody"}])
    with reading(engine) as connection:
        assert connection.execute(sa.select(pets)).all() == [("a", 7)]


def test_value_without_a_name_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(ValueError, match="values without a name"):
        RowStatements(engine, "odd", [sa.delete(pets).where(pets.c.order == 7)])
