"""The results of tasks: stored as chunks of items, each a row of the table `results`, read in
order, and exported as text: NDJSON or CSV.

Exports leave out items that were not processed; of an item that failed they have only the id.
Floats are written with as many digits as it takes to read the same float back. JSON has no NaN and
no infinity, so NDJSON has null for them; CSV has nan, inf and -inf.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Engine, bindparam, insert, select

from hotloop.app.database.engine import reading
from hotloop.app.errors import StoreError
from hotloop.app.tasks.chunks import (
    CHUNK_ROWS,
    Chunk,
    ResultColumns,
    ResultRows,
    chunk_values,
    join,
    unpack,
)
from hotloop.app.tasks.tables import results

PIECE_ROWS: Final = 1_024
"""Rows of one piece of text; about 64 KiB for the workloads so far."""

_CHUNKS_PER_READ = 1_024
"""Places of chunks that are read at once; bounds the memory for them."""

_FIELDS = [results.c[field.name] for field in fields(Chunk)]
_PLACE = results.c.start, results.c["count"]
_NEW_CHUNKS: Final = insert(results)
_STORED: Final = (
    select(*_PLACE)
    .where(
        results.c.task_id == bindparam("of_task"),
        results.c.start >= bindparam("first"),
        results.c.start < bindparam("end"),
    )
    .order_by(results.c.start)
)


def insert_chunks(
    connection: Connection, task_id: str, chunks: Sequence[Chunk], first: int, count: int
) -> None:
    """Store chunks of a task, of ascending positions. Chunks that are stored already stay as they
    are. ValueError when only some items of a chunk are stored, or a chunk is not within the `count`
    items from `first` on.
    """
    if not chunks:
        return
    start, end = chunks[0].start, chunks[-1].start + chunks[-1].count
    if start < first or end > first + count:
        raise ValueError(f"items {start} … {end - 1} of {count} from {first} on")
    near = stored_ranges(connection, task_id, start - CHUNK_ROWS + 1, end)
    stored = [(first, first + count) for first, count in near]
    new = [chunk for chunk in chunks if not _is_stored(chunk, stored)]
    if new:
        rows = [{"task_id": task_id, **chunk_values(chunk)} for chunk in new]
        connection.execute(_NEW_CHUNKS, rows)


def stored_ranges(
    connection: Connection, task_id: str, start: int, end: int
) -> list[tuple[int, int]]:
    """The (start, count) of each stored chunk that starts at `start … end - 1`, in order."""
    asked = {"of_task": task_id, "first": start, "end": end}
    return [(first, count) for first, count in connection.execute(_STORED, asked)]


def _is_stored(chunk: Chunk, stored: list[tuple[int, int]]) -> bool:
    """Return True if all items of the chunk are in the ascending ranges `stored` (start, end)."""
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


_TO_THE_END: Final = 1 << 62
_OF_TASK: Final = results.c.task_id == bindparam("of_task")
_LAST: Final = (
    select(*_PLACE)
    .where(_OF_TASK, results.c.start <= bindparam("upto"))
    .order_by(results.c.start.desc())
    .limit(1)
)
_INSIDE: Final = (
    _OF_TASK,
    results.c.start >= bindparam("first"),
    results.c.start < bindparam("end"),
)
_PLACES: Final = select(*_PLACE).where(*_INSIDE).order_by(results.c.start).limit(bindparam("most"))
_CHUNKS: Final = (
    select(*_FIELDS).where(*_INSIDE, results.c.start <= bindparam("last")).order_by(results.c.start)
)


class ResultsReader:
    """Reads the results of a task, also while they still come in.

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
        """The position after the last stored item; 0 without any."""
        return sum(self._last(_TO_THE_END) or (0,))

    def blocks(self, offset: int = 0, limit: int | None = None) -> Iterator[ResultRows]:
        """Yield the items at positions `offset … offset + limit - 1`, or all from `offset`, in
        order, without items that were not processed. A block has 1 … CHUNK_ROWS rows; a few blocks
        are in memory at once.
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

    def head(self, count: int) -> list[dict[str, bool | int | float | None]]:
        """The first `count` processed items: `item_id` and the columns, None where one failed."""
        found: list[dict[str, bool | int | float | None]] = []
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
        """The start of the chunk that has the item at `offset`; `offset` itself without one."""
        found = self._last(offset)
        return found[0] if found is not None and sum(found) > offset else offset

    def _last(self, upto: int) -> tuple[int, int] | None:
        """The (start, count) of the last chunk that starts at `upto` or before."""
        with reading(self._engine) as connection:
            found = connection.execute(_LAST, {"of_task": self._task_id, "upto": upto}).first()
        return None if found is None else (found[0], found[1])

    def _read(self, first: int, end: int | None) -> list[Chunk]:
        """The next chunks that start at `first … end - 1`: with CHUNK_ROWS rows together at most,
        but at least one chunk, if there is any.
        """
        until = _TO_THE_END if end is None else end
        inside = {"of_task": self._task_id, "first": first, "end": until}
        with reading(self._engine) as connection:
            last, room = -1, CHUNK_ROWS
            most = {"most": _CHUNKS_PER_READ}
            for start, count in connection.execute(_PLACES, inside | most):
                if last >= 0 and count > room:
                    break
                last, room = start, room - count
            if last < 0:
                return []
            return [Chunk(*row) for row in connection.execute(_CHUNKS, inside | {"last": last})]

    def _unpacked(self, chunk: Chunk) -> ResultRows:
        try:
            return unpack(chunk, self.columns)
        except ValueError as error:
            raise self._damaged(f"of the items from {chunk.start:,} on, {error}") from error

    def _checked_columns(self, stored: Any) -> ResultColumns:
        try:
            columns = tuple((str(name), np.dtype(dtype).name) for name, dtype in stored)
            if all(np.dtype(dtype).kind in "iufb" for _, dtype in columns):
                return columns
        except (TypeError, ValueError):
            pass
        raise self._damaged("their columns are unknown")

    def _damaged(self, what: str) -> StoreError:
        return StoreError(
            f"the results of task {self._task_id} are damaged: {what}. Delete the task, and ask "
            "for it again."
        )


def ndjson_lines(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """Yield a line `{"item_id":0,"loop":-27.4,"nested":9388000}` for each item, in pieces of about
    64 KiB; null where the item failed or a float is not finite. `blocks` are those of a
    ResultsReader, whose StoreError passes.
    """
    names = ["item_id", *(name for name, _ in columns)]
    fields = ",".join(f'"{name}":%s' for name in names)
    return _lines(names[1:], blocks, f"{{{fields}}}\n", "null", finite_only=True)


def csv_lines(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """Yield a header line, then a line for each item, in pieces of about 64 KiB; fields are empty
    where the item failed. Lines end in LF. `blocks` are as for `ndjson_lines`.
    """
    names = ["item_id", *(name for name, _ in columns)]
    yield f"{','.join(names)}\n".encode()
    line = f"{','.join(['%s'] * len(names))}\n"
    yield from _lines(names[1:], blocks, line, "", finite_only=False)


def _lines(
    names: Sequence[str],
    blocks: Iterable[ResultRows],
    line: str,
    missing: str,
    *,
    finite_only: bool,
) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), PIECE_ROWS):
            rows = block.part(start, start + PIECE_ROWS)
            item_ids = [str(item_id) for item_id in rows.item_ids.tolist()]
            columns = [item_ids, *(_texts(rows, name, missing, finite_only) for name in names)]
            yield "".join(map(line.__mod__, zip(*columns, strict=True))).encode()


def _texts(rows: ResultRows, name: str, missing: str, finite_only: bool) -> list[str]:
    """The column's values as text; `missing` for failed items, and, with `finite_only`, for values
    that are not finite.
    """
    values = rows.columns[name]
    if values.dtype == np.bool_:
        texts = ["true" if value else "false" for value in values.tolist()]
    else:
        texts = [repr(value) for value in values.tolist()]
    is_missing = rows.failed | ~np.isfinite(values) if finite_only else rows.failed
    for position in np.flatnonzero(is_missing):
        texts[position] = missing
    return texts
