"""The results of tasks in the store: chunks of items, each a row of the table `results`."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, insert, select

from hotloop.app.errors import StoreError
from hotloop.app.tasks.chunks import CHUNK_ROWS, Chunk, ResultColumns, ResultRows, join, unpack
from hotloop.app.tasks.engine import reading
from hotloop.app.tasks.tables import results

_CHUNKS_PER_READ = 1_024
"""Bounds the memory for what is known of chunks before they are read."""

_FIELDS = [results.c[field.name] for field in fields(Chunk)]


def insert_chunks(
    connection: Connection, task_id: str, chunks: Sequence[Chunk], first: int, count: int
) -> None:
    """Store chunks of a task, of ascending positions. Items that are stored already stay as they
    are. ValueError when only some items of a chunk are, or when it is not within `count` items
    from `first` on.
    """
    if not chunks:
        return
    start, end = chunks[0].start, chunks[-1].start + chunks[-1].count
    if start < first or end > first + count:
        raise ValueError(f"items {start} … {end - 1} of {count} from {first} on")
    place = select(results.c.start, results.c["count"]).where(
        results.c.task_id == task_id,
        results.c.start > start - CHUNK_ROWS,
        results.c.start < end,
    )
    stored = sorted((first, first + count) for first, count in connection.execute(place))
    new = [chunk for chunk in chunks if not _is_stored(chunk, stored)]
    if new:
        rows = [{"task_id": task_id, **asdict(chunk)} for chunk in new]
        connection.execute(insert(results), rows)


def _is_stored(chunk: Chunk, stored: list[tuple[int, int]]) -> bool:
    """Whether all items of the chunk are among the ascending ranges `stored` (start, end)."""
    end = chunk.start + chunk.count
    found = 0
    for first, last in stored[max(0, bisect_right(stored, (chunk.start,)) - 1) :]:
        if first >= end:
            break
        found += max(0, min(last, end) - max(first, chunk.start))
    if 0 < found < chunk.count:
        raise ValueError(
            f"of the items at {chunk.start} … {end - 1}, {found} are stored already and the others "
            "are not"
        )
    return found > 0


class ResultsReader:
    """The results of a task, while they come in or after.

    Nothing stays open between two reads, and a read is short: writers and the upkeep of the
    database never wait for a slow client. Methods may be called from several threads at once.
    They raise StoreError when results are damaged, or the database cannot be used.
    """

    def __init__(self, engine: Engine, task_id: str, stored_columns: Any) -> None:
        """`stored_columns` is `result_columns` of the task's row."""
        self._engine = engine
        self._task_id = task_id
        self.columns = self._checked_columns(stored_columns)
        """The output columns."""

    def end(self) -> int:
        """The position after the last item that is there; 0 without any."""
        last = select(results.c.start + results.c["count"]).where(
            results.c.task_id == self._task_id
        )
        with reading(self._engine) as connection:
            found = connection.scalar(last.order_by(results.c.start.desc()).limit(1))
        return found or 0

    def blocks(self, offset: int = 0, limit: int | None = None) -> Iterator[ResultRows]:
        """The items at positions `offset … offset + limit - 1`, or all from `offset`, in order;
        those that were not processed are left out. A block has 1 … CHUNK_ROWS rows, and memory is
        that of a few.
        """
        end = offset + limit if limit is not None else None
        first = self._first_start(offset)
        position = 0
        while chunks := self._read(first, end):
            parts = []
            for chunk in chunks:
                if chunk.start < position:
                    raise self._damaged("some items are there twice")
                rows, position = self._unpacked(chunk), chunk.start + chunk.count
                stop = position if end is None else min(position, end)
                parts.append(rows.part(max(0, offset - chunk.start), stop - chunk.start))
            yield join(parts)
            first = chunks[-1].start + 1

    def head(self, count: int) -> list[dict[str, int | float | None]]:
        """The first `count` processed items: `item_id` and the columns, None where it failed."""
        found: list[dict[str, int | float | None]] = []
        for block in self.blocks():
            rows = block.part(0, count - len(found))
            for index, failed in enumerate(rows.failed):
                values = {
                    name: None if failed else column[index].item()
                    for name, column in rows.columns.items()
                }
                found.append({"item_id": int(rows.item_ids[index]), **values})
            if len(found) == count:
                break
        return found

    def _first_start(self, offset: int) -> int:
        """Where the chunk starts that has the item at `offset`; `offset` itself without one."""
        before = select(results.c.start, results.c["count"]).where(
            results.c.task_id == self._task_id, results.c.start <= offset
        )
        with reading(self._engine) as connection:
            found = connection.execute(before.order_by(results.c.start.desc()).limit(1)).first()
        return found[0] if found is not None and sum(found) > offset else offset

    def _read(self, first: int, end: int | None) -> list[Chunk]:
        """The chunks that start at `first` or after it and before `end`: as many as have
        CHUNK_ROWS rows together, but one if there is any.
        """
        inside = [results.c.task_id == self._task_id, results.c.start >= first]
        if end is not None:
            inside.append(results.c.start < end)
        places = select(results.c.start, results.c["count"]).where(*inside)
        places = places.order_by(results.c.start).limit(_CHUNKS_PER_READ)
        with reading(self._engine) as connection:
            last, room = -1, CHUNK_ROWS
            for start, count in connection.execute(places):
                if last >= 0 and count > room:
                    break
                last, room = start, room - count
            if last < 0:
                return []
            wanted = select(*_FIELDS).where(*inside, results.c.start <= last)
            return [Chunk(*row) for row in connection.execute(wanted.order_by(results.c.start))]

    def _unpacked(self, chunk: Chunk) -> ResultRows:
        try:
            return unpack(chunk, self.columns)
        except ValueError as error:
            raise self._damaged(f"of the items from {chunk.start:,} on, {error}") from error

    def _checked_columns(self, stored: Any) -> ResultColumns:
        try:
            columns = tuple((str(name), np.dtype(dtype).name) for name, dtype in stored)
            if all(np.dtype(dtype).kind in "iuf" for _, dtype in columns):
                return columns
        except (TypeError, ValueError):
            pass
        raise self._damaged("their columns are unknown")

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"the results of task {self._task_id} are damaged: {what}. Delete the task, and ask "
            "for it again."
        )
