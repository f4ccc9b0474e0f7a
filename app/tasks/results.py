"""The results of a task in a file: a row for every item, at the item's position.

The file has its full size from the start, mostly as a hole that takes no room on the disk; a row
that was never written has `state` NOT_PROCESSED.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from app.disk import disk_error
from app.errors import StoreError
from app.row_file import RowFile, Rows, header_bytes, row_dtype
from app.strategies.base import BatchResult
from kernels import get_workload

NOT_PROCESSED: Final = 0
DONE: Final = 1
FAILED: Final = 2

CHUNK_ROWS: Final = 1_024
"""About 64 KiB of text, for the workloads so far."""


def result_dtype(workload: str) -> np.dtype[np.void]:
    """The rows of a results file: `item_id` int64, the workload's output columns, `state` uint8."""
    columns = ((column.name, column.dtype) for column in get_workload(workload).columns_out)
    return row_dtype([("item_id", "int64"), *columns, ("state", "uint8")])


class ResultsWriter:
    """Makes the results file of a task; `write` may be called from several threads at once.

    Raises StoreError when the disk refuses, also when there is such a file already.
    """

    def __init__(self, path: str | Path, workload: str, total_items: int) -> None:
        self._total_items = total_items
        self._dtype = result_dtype(workload)
        header = header_bytes(self._dtype, total_items)
        self._rows_start = len(header)
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            os.truncate(self._descriptor, len(header) + total_items * self._dtype.itemsize)
            self._write_at(0, header)
        except OSError as error:
            if self._descriptor >= 0:
                self.close()
                Path(path).unlink(missing_ok=True)
            raise disk_error("the results cannot be stored", error) from error

    def write(self, result: BatchResult) -> None:
        """Store the rows of a batch at its position; storing them twice changes nothing.

        ValueError when the batch is not within the task's items.
        """
        start, count = result.batch.start, len(result.item_ids)
        if start < 0 or start + count > self._total_items:
            raise ValueError(f"rows {start} … {start + count - 1} of {self._total_items}")
        rows = np.zeros(count, self._dtype)
        rows["item_id"] = result.item_ids
        rows["state"] = np.where(result.failed, FAILED, DONE)
        for name in (self._dtype.names or ())[1:-1]:
            rows[name] = result.columns[name]
        try:
            self._write_at(self._rows_start + start * self._dtype.itemsize, rows.tobytes())
        except OSError as error:
            raise disk_error("the results cannot be stored", error) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write_at(self, offset: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = os.pwrite(self._descriptor, left, offset)
            left = left[written:]
            offset += written


class ResultsReader:
    """The results of a task, read while they are written or after; a context manager.

    Methods may be called from several threads at once. Raises StoreError when the file is
    missing, damaged or not a results file.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = RowFile(path)
        names = self._file.names
        if names[0] != "item_id" or names[-1] != "state":
            self._file.close()
            raise StoreError(f"the file {self._file.name} does not hold results")
        self.columns = names[1:-1]
        """Names of the workload's output columns."""
        self.total_items = self._file.count

    def rows(self, start: int = 0, count: int | None = None) -> Iterator[Rows]:
        """Rows `start … start + count - 1`, or all from `start`, CHUNK_ROWS at a time at most.

        Each chunk has the fields `item_id`, those of `columns`, and `state`. Memory is that of
        one chunk.
        """
        end = self.total_items if count is None else start + count
        for first in range(start, end, CHUNK_ROWS):
            yield self._file.read(first, min(CHUNK_ROWS, end - first))

    def head(self, count: int) -> list[dict[str, int | float | None]]:
        """The first `count` processed items: `item_id` and the columns, None where it failed."""
        found: list[dict[str, int | float | None]] = []
        for chunk in self.rows():
            processed = chunk[chunk["state"] != NOT_PROCESSED]
            for row in processed[: count - len(found)]:
                values = {
                    name: None if row["state"] == FAILED else row[name].item()
                    for name in self.columns
                }
                found.append({"item_id": int(row["item_id"]), **values})
            if len(found) == count:
                break
        return found

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
