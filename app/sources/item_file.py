"""Items in a file: rows of `item_id` and a workload's input columns.

Written once, from front to back, without knowing their number; then read by range from any
thread or process.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from hotloop.app.disk import disk_error, new_file
from hotloop.app.errors import DamagedFileError
from hotloop.app.names import ITEM_ID
from hotloop.app.sources.base import Columns, ItemBatch
from hotloop.app.sources.row_file import Checksums, RowFile, header_bytes, native_column, row_dtype
from hotloop.kernels import get_workload


def item_dtype(workload: str) -> np.dtype[np.void]:
    """Return the dtype of an item file's rows: `item_id` int64, then the input columns."""
    return row_dtype((ITEM_ID, *get_workload(workload).columns_in))


class ItemWriter:
    """Appends items to a file that is being made; see `new_item_file`."""

    def __init__(self, file: BinaryIO, dtype: np.dtype[np.void]) -> None:
        self.count = 0
        self._file = file
        self._dtype = dtype
        self._names = (dtype.names or ())[1:]
        self._checksums = Checksums()

    def append(self, item_ids: npt.NDArray[np.int64], columns: Columns) -> None:
        """Write n items: `item_ids` int64[n], and n values or vectors for each input column."""
        rows = np.empty(len(item_ids), self._dtype)
        rows[ITEM_ID.name] = item_ids
        for name in self._names:
            rows[name] = columns[name]
        data = rows.tobytes()
        self._file.write(data)
        self._checksums.add(data)
        self.count += len(rows)

    def checksums(self) -> bytes:
        """Return the bytes that follow the rows."""
        return self._checksums.packed()

    def finish(self) -> None:
        """Write the checksums and the number of rows, which are known only at the end."""
        self._file.write(self.checksums())
        self._file.seek(0)
        self._file.write(header_bytes(self._dtype, self.count))


@contextmanager
def new_item_file(path: str | Path, workload: str) -> Iterator[ItemWriter]:
    """Make or replace the item file at `path`.

    It appears under its name, complete, when the block ends; if the block raises, nothing is left.
    Raises StoreError if the disk refuses.
    """
    dtype = item_dtype(workload)
    try:
        with new_file(Path(path)) as file:
            file.write(header_bytes(dtype, 0))
            writer = ItemWriter(file, dtype)
            yield writer
            writer.finish()
    except OSError as error:
        raise disk_error("the items cannot be stored", error) from error


def packed_items(workload: str, item_ids: npt.NDArray[np.int64], columns: Columns) -> bytes:
    """Return the bytes of an item file with these items."""
    dtype = item_dtype(workload)
    file = io.BytesIO()
    file.write(header_bytes(dtype, len(item_ids)))
    writer = ItemWriter(file, dtype)
    writer.append(item_ids, columns)
    file.write(writer.checksums())
    return file.getvalue()


def unpacked_items(workload: str, data: bytes, count: int) -> tuple[npt.NDArray[np.int64], Columns]:
    """Return the ids and the columns of the `count` items in the bytes of an item file. Raises
    DamagedFileError for other bytes.
    """
    dtype, checksums = item_dtype(workload), Checksums()
    header = header_bytes(dtype, count)
    body = data[len(header) : len(header) + count * dtype.itemsize]
    checksums.add(body)
    if data != header + body + checksums.packed():
        raise DamagedFileError("the task's items in the database are not as they were stored")
    rows = np.frombuffer(body, dtype, count)
    columns = {name: native_column(rows, name) for name in dtype.names or ()}
    return columns.pop(ITEM_ID.name), columns


def add_checksums(path: Path) -> None:
    """Add checksums to an item file of a version that wrote none. Raises StoreError."""
    checksums = Checksums()
    with RowFile(path) as old:
        rows_bytes = old.count * old.dtype.itemsize
    try:
        with path.open("rb") as source, new_file(path) as file:
            file.write(source.read(path.stat().st_size - rows_bytes))
            while data := source.read(1 << 20):
                file.write(data)
                checksums.add(data)
            file.write(checksums.packed())
    except OSError as error:
        raise disk_error("the items cannot be stored", error) from error


@dataclass(frozen=True, slots=True)
class FileItems:
    """The `count` items of the item file at `path`; an `Items`."""

    path: str
    count: int

    def load(self, workload: str, start: int, count: int) -> ItemBatch:
        """Load items `start … start + count - 1`, each column contiguous, aligned and native.

        Raises StoreError if the file is missing; DamagedFileError if it has changed since it was
        written, or holds items of another workload or another number of items; ValueError if the
        range is not within it.
        """
        with self._opened(workload) as file:
            rows = file.read(start, count)
            columns = {name: native_column(rows, name) for name in file.names}
        return ItemBatch(columns.pop(ITEM_ID.name), columns)

    def check(self, workload: str, start: int, count: int) -> None:
        """Check that `load` can load these items. Raises the errors of `load`."""
        with self._opened(workload) as file:
            file.check(start, count)

    def _opened(self, workload: str) -> RowFile:
        file = RowFile(self.path)
        if file.dtype == item_dtype(workload) and file.count == self.count:
            return file
        file.close()
        raise DamagedFileError(
            f"the file {file.name} does not hold {self.count:,} items for the workload "
            f"{workload!r}, but {file.count:,} rows of {', '.join(file.names)}"
        )
