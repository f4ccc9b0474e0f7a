"""A source of one's own: the columns of items from a table in an SQLite file.

    HOTLOOP_SOURCES='{"sqlite": "examples.sqlite_source:make_stage"}'
    SQLITE_SOURCE=examples/items.sqlite

`python -m examples.sqlite_source examples/items.sqlite 1000` makes such a file.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotloop.app.sources.base import ItemBatch, ItemFetchError, Positions
from hotloop.app.sources.row_columns import row_columns
from hotloop.app.sources.values import assign, ids_at


@dataclass(frozen=True, slots=True)
class SqliteStage:
    """Plain data: it travels to worker processes, which open what they need themselves."""

    name: str
    workload: str
    path: str
    source: str = "sqlite"
    batched: bool = True
    seconds_per_call: float = 0.002

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        """Fetch all items of the call in one query; an item without a row fails by itself."""
        counts = batch.counts_of(self.name)
        counts.calls += 1
        ids = ids_at(batch, positions)
        rows = self._rows(ids)
        placed = []
        for position, item_id in zip(positions, ids, strict=True):
            if item_id in rows:
                placed.append(position)
            else:
                batch.fail(position, self.name, "sqlite has no row for it")
        counts.hits += len(placed)
        counts.misses += len(ids) - len(placed)
        found = [rows[item_id] for item_id in ids if item_id in rows]
        for number, column in enumerate(row_columns(self.workload)[1:]):
            assign(batch, placed, column, [row[number] for row in found], self.name)

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        """SQLite blocks, so the asynchronous face waits for a thread."""
        await asyncio.to_thread(self.fetch, batch, positions, threading.Event())

    def _rows(self, ids: list[int]) -> dict[int, tuple[Any, ...]]:
        names = ", ".join(f'"{column.name}"' for column in row_columns(self.workload))
        marks = ", ".join("?" * len(ids))
        query = f"SELECT {names} FROM items WHERE item_id IN ({marks})"
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as database:
                return {row[0]: row[1:] for row in database.execute(query, ids)}
        except sqlite3.Error as error:
            raise ItemFetchError(f"sqlite: {error}") from error


def make_stage(*, name: str, workload: str, **_: object) -> SqliteStage:
    """Called for each run; also given: `connections` (how many calls there may be at once) and
    `policy` (timeout, attempts, outage), for sources that use them.
    """
    return SqliteStage(name, workload, os.environ["SQLITE_SOURCE"])


def make_file(path: Path, count: int) -> None:
    """`count` items for the workload `loops`."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            'CREATE TABLE items (item_id INTEGER PRIMARY KEY, "value" REAL, "offset" INTEGER)'
        )
        rows = ((item_id, item_id % 800 / 8, item_id % 97) for item_id in range(count))
        database.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)


if __name__ == "__main__":
    make_file(Path(sys.argv[1]), int(sys.argv[2]))
