"""The stored form of results: chunks of contiguous items, packed by column.

A chunk's bytes are raw little-endian columns one after another: `item_id` int64, the workload's
output columns, `state` uint8. Names and types of the columns are stored once for a task
(`ResultColumns`), so that results stay readable when the workload has other columns later.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.sources.base import Columns
from hotloop.app.strategies.base import BatchResult
from hotloop.kernels import get_workload

DONE: Final = 1
FAILED: Final = 2

CHUNK_ROWS: Final = 65_536
"""Rows of the largest chunk, which readers hold in memory: about 1.6 MB for the workloads so far.
"""

ResultColumns = tuple[tuple[str, str], ...]
"""(name, numpy dtype name) of the output columns, in order."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Results of the items at positions `start … start + count - 1`, `failed` of which failed."""

    start: int
    count: int
    failed: int
    crc32: int
    """The checksum of `start`, `count` and `rows`."""
    rows: bytes


def chunk_values(chunk: Chunk) -> dict[str, Any]:
    """Return the columns of a chunk's row, without its task."""
    return {
        "start": chunk.start,
        "count": chunk.count,
        "failed": chunk.failed,
        "crc32": chunk.crc32,
        "rows": chunk.rows,
    }


@dataclass(frozen=True, slots=True)
class ResultRows:
    """Some results, in the order of items: `item_ids` int64[n], each output column with length n,
    and `failed` bool[n]; where it is true, the output columns mean nothing.
    """

    item_ids: npt.NDArray[np.int64]
    columns: Columns
    failed: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.item_ids)

    def part(self, start: int, end: int) -> ResultRows:
        """The rows at `start … end - 1`, as far as there are any, without a copy."""
        columns = {name: column[start:end] for name, column in self.columns.items()}
        return ResultRows(self.item_ids[start:end], columns, self.failed[start:end])


def result_columns(workload: str) -> ResultColumns:
    """The output columns of a workload as it is now."""
    return tuple((column.name, column.dtype) for column in get_workload(workload).columns_out)


def result_bytes(workload: str) -> int:
    """The bytes of one item's stored results."""
    return sum(np.dtype(dtype).itemsize for _, dtype in _stored(result_columns(workload)))


def pack(results: Iterable[BatchResult], columns: ResultColumns) -> list[Chunk]:
    """Pack the results of some batches into chunks: adjacent batches together, cut at CHUNK_ROWS.

    ValueError when batches overlap, or their columns are not exactly these.
    """
    chunks: list[Chunk] = []
    for run in _adjacent(sorted(results, key=lambda result: result.batch.start)):
        first, stored = run[0].batch.start, _stored_columns(run, columns)
        for start in range(0, len(stored[0]), CHUNK_ROWS):
            parts = [column[start : start + CHUNK_ROWS] for column in stored]
            count, rows = len(parts[0]), b"".join(part.data for part in parts)
            failed = int(np.count_nonzero(parts[-1] == FAILED))
            crc32 = _crc32(first + start, count, rows)
            chunks.append(Chunk(first + start, count, failed, crc32, rows))
    return chunks


def pack_all(
    item_ids: npt.NDArray[np.int64],
    columns: Columns,
    failed: npt.NDArray[np.bool_],
    names: ResultColumns,
) -> Chunk:
    """Pack all results of a small task, at most CHUNK_ROWS, into one chunk. ValueError when the
    columns are not exactly these.
    """
    return pack_rows(0, ResultRows(item_ids, columns, failed), names)


def pack_rows(start: int, given: ResultRows, columns: ResultColumns) -> Chunk:
    """Pack at most CHUNK_ROWS results, from the position `start` on, into one chunk. ValueError
    when the columns are not exactly these.
    """
    count, parts = len(given), [given.item_ids]
    for name, dtype in columns:
        column = given.columns[name]
        if column.dtype != dtype or column.shape != (count,):
            raise ValueError(
                f"column {name} is {column.dtype}{column.shape}, not {dtype}({count},)"
            )
        parts.append(column)
    rows = b"".join([*map(_little_endian, parts), _states(given.failed).tobytes()])
    crc32 = _crc32(start, count, rows)
    return Chunk(start, count, int(np.count_nonzero(given.failed)), crc32, rows)


def _little_endian(column: npt.NDArray[Any]) -> bytes:
    return column.astype(column.dtype.newbyteorder("<"), copy=False).tobytes()


def _states(failed: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return failed + np.uint8(DONE)  # FAILED is one more


def unpack(chunk: Chunk, columns: ResultColumns) -> ResultRows:
    """Read the rows of a chunk, as views of its bytes. ValueError when the chunk is damaged."""
    dtypes = [np.dtype(dtype).newbyteorder("<") for _, dtype in _stored(columns)]
    if len(chunk.rows) != chunk.count * sum(dtype.itemsize for dtype in dtypes):
        raise ValueError("its length is wrong")
    if _crc32(chunk.start, chunk.count, chunk.rows) != chunk.crc32:
        raise ValueError("its checksum is wrong")
    offset = 0
    arrays: list[npt.NDArray[Any]] = []
    for dtype in dtypes:
        arrays.append(np.frombuffer(chunk.rows, dtype, chunk.count, offset))
        offset += chunk.count * dtype.itemsize
    item_ids, *outputs, state = arrays
    failed = state == FAILED
    if np.count_nonzero(failed) != chunk.failed:
        raise ValueError("its number of failed items is wrong")
    names = [name for name, _ in columns]
    return ResultRows(item_ids, dict(zip(names, outputs, strict=True)), failed)


def join(parts: Sequence[ResultRows]) -> ResultRows:
    """Join the rows of at least one part; a single part is returned without a copy."""
    if len(parts) == 1:
        return parts[0]
    return ResultRows(
        np.concatenate([part.item_ids for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        np.concatenate([part.failed for part in parts]),
    )


def _stored(columns: ResultColumns) -> ResultColumns:
    return (("item_id", "int64"), *columns, ("state", "uint8"))


def _crc32(start: int, count: int, rows: bytes) -> int:
    # The place is included, so that a chunk is not taken for another one.
    return zlib.crc32(rows, zlib.crc32(b"%d:%d" % (start, count)))


def _adjacent(results: Iterable[BatchResult]) -> Iterator[list[BatchResult]]:
    """Results of ascending positions, in groups without a gap."""
    group: list[BatchResult] = []
    end = 0
    for result in results:
        if group and result.batch.start < end:
            raise ValueError(f"batch {result.batch.index} overlaps another one")
        if group and result.batch.start > end:
            yield group
            group = []
        group.append(result)
        end = result.batch.start + result.batch.count
    if group:
        yield group


def _stored_columns(group: list[BatchResult], columns: ResultColumns) -> list[npt.NDArray[Any]]:
    """All columns of a group of adjacent batches, little-endian, contiguous."""
    joined: list[npt.NDArray[Any]] = []
    for name, dtype_name in _stored(columns):
        dtype = np.dtype(dtype_name)
        parts = [_column(result, name) for result in group]
        for result, part in zip(group, parts, strict=True):
            if part.dtype != dtype or part.shape != (result.batch.count,):
                raise ValueError(
                    f"column {name} of batch {result.batch.index} is {part.dtype}{part.shape}, "
                    f"not {dtype}({result.batch.count},)"
                )
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts)
        joined.append(np.ascontiguousarray(whole, dtype.newbyteorder("<")))
    return joined


def _column(result: BatchResult, name: str) -> npt.NDArray[Any]:
    if name == "item_id":
        return result.item_ids
    if name == "state":
        return _states(result.failed)
    if name not in result.columns:
        raise ValueError(f"batch {result.batch.index} has no column {name}")
    return result.columns[name]
