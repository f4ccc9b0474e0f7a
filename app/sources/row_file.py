"""Files of rows of one structured dtype: standard `.npy` files, read and written by range.

Any tool that knows the format can open them (`numpy.load(path, mmap_mode="r")`). Rows are packed
and little-endian, so a file may be read on another machine than the one that wrote it. After the
rows come their checksums, one for every BLOCK_BYTES; every read checks those that it touches.
"""

from __future__ import annotations

import io
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from hotloop.app.disk import disk_error
from hotloop.app.errors import DamagedFileError
from hotloop.kernels import Column

Rows = npt.NDArray[np.void]
"""A 1-D structured array."""

_FIXED_BYTES = 10  # magic string, version, length of the rest of the header
_MAX_HEADER_BYTES = 65_535
"""The most that the format can hold: some hundreds of columns."""

BLOCK_BYTES = 16_384
"""Bytes of rows that share a checksum, and are read together."""
_CHECKSUM = np.dtype("<u4")
_CHECKED_BYTES = 1 << 20
"""Bytes that `check` reads at a time."""


def row_dtype(columns: Iterable[Column]) -> np.dtype[np.void]:
    """Return a packed little-endian dtype with a field, or a field of vectors, for each column."""
    return np.dtype(
        [
            (
                each.name,
                np.dtype(each.dtype).newbyteorder("<"),
                () if each.width is None else each.width,
            )
            for each in columns
        ]
    )


@lru_cache
def header_bytes(dtype: np.dtype[np.void], count: int) -> bytes:
    """Return the file's bytes before its rows. NumPy pads them to a size that does not depend on
    `count`, so that the header can be written again once the count is known."""
    buffer = io.BytesIO()
    description = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (count,),
    }
    np.lib.format.write_array_header_1_0(buffer, description)
    return buffer.getvalue()


class Checksums:
    """Collects the checksums of rows that are written one after another."""

    def __init__(self) -> None:
        self._complete: list[int] = []
        self._current = 0
        self._filled = 0

    def add(self, data: bytes) -> None:
        """Add the next bytes of rows."""
        rest = memoryview(data)
        while rest:
            piece = rest[: BLOCK_BYTES - self._filled]
            self._current = zlib.crc32(piece, self._current)
            self._filled += len(piece)
            rest = rest[len(piece) :]
            if self._filled == BLOCK_BYTES:
                self._complete.append(self._current)
                # Each block begins with its number, so that blocks cannot be confused.
                self._current, self._filled = len(self._complete), 0

    def packed(self) -> bytes:
        """Return the bytes that follow the rows in the file."""
        last = [self._current] if self._filled else []
        return np.array([*self._complete, *last], _CHECKSUM).tobytes()


def native_column(rows: Rows, name: str) -> npt.NDArray[Any]:
    """Copy a column of `rows` into new memory: contiguous, aligned, native byte order; 2-D for
    vectors.
    """
    column = rows[name]
    return column.astype(column.dtype.newbyteorder("="), order="C", copy=True)


class RowFile:
    """A complete row file, open for reading. `read` may be called from several threads at once.

    Raises StoreError if the file is missing, DamagedFileError if it is not a row file, or its size
    differs from its header.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = Path(path).name
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise disk_error(f"the file {self.name} cannot be opened", error) from error
        try:
            header = self._checked_header()
        except BaseException:
            self.close()
            raise
        self.dtype = header.dtype
        self.count = header.count
        self._rows_start = header.size
        self._rows_bytes = header.count * header.dtype.itemsize

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return self.dtype.names or ()

    def read(self, start: int, count: int) -> Rows:
        """Read rows `start … start + count - 1` into memory.

        Raises DamagedFileError if they do not match their checksums; ValueError if they are not all
        within the file.
        """
        if start < 0 or count < 0 or start + count > self.count:
            raise ValueError(f"rows {start} … {start + count - 1} of {self.count}")
        first, last = start * self.dtype.itemsize, (start + count) * self.dtype.itemsize
        begin = first - first % BLOCK_BYTES
        blocks = self._checked_blocks(begin, last)
        return np.frombuffer(blocks, self.dtype, count, first - begin)

    def check(self, start: int, count: int) -> None:
        """Check rows `start … start + count - 1` without keeping them. Raises `read`'s errors."""
        rows = max(1, _CHECKED_BYTES // self.dtype.itemsize)
        for position in range(start, start + count, rows):
            self.read(position, min(rows, start + count - position))

    def _checked_blocks(self, begin: int, end: int) -> bytearray:
        """Read the blocks with the bytes of rows from `begin`, the start of a block, to `end`."""
        if not self.has_checksums:
            raise DamagedFileError(f"the file {self.name} is damaged: it has no checksums")
        first, last = begin // BLOCK_BYTES, -(-end // BLOCK_BYTES)
        size = min(last * BLOCK_BYTES, self._rows_bytes) - begin
        read = self._bytes(self._rows_start + begin, size)
        place = self._rows_start + self._rows_bytes + first * _CHECKSUM.itemsize
        stored = self._bytes(place, (last - first) * _CHECKSUM.itemsize)
        if len(read) < size or len(stored) < (last - first) * _CHECKSUM.itemsize:
            raise DamagedFileError(f"the file {self.name} was cut short while it was read")
        view = memoryview(read)
        for number, expected in enumerate(np.frombuffer(stored, _CHECKSUM).tolist(), first):
            at = number * BLOCK_BYTES - begin
            if zlib.crc32(view[at : at + BLOCK_BYTES], number) != expected:
                raise DamagedFileError(
                    f"the file {self.name} is damaged: its rows do not match their checksums"
                )
        return read

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

    def _checked_header(self) -> _Header:
        start = self._bytes(0, _FIXED_BYTES)
        rest = int.from_bytes(start[8:10], "little")
        header = None
        if len(start) == _FIXED_BYTES and rest <= _MAX_HEADER_BYTES:
            header = _parsed_header(bytes(start + self._bytes(_FIXED_BYTES, rest)))
        if header is None:
            raise DamagedFileError(f"the file {self.name} is damaged, or not one of the service's")
        rows = header.count * header.dtype.itemsize
        expected = header.size + rows + -(-rows // BLOCK_BYTES) * _CHECKSUM.itemsize
        actual = os.fstat(self._descriptor).st_size
        self.has_checksums = actual == expected
        """True unless the first versions wrote the file: without checksums, `read` refuses it."""
        if actual not in (expected, header.size + rows):
            raise DamagedFileError(
                f"the file {self.name} is damaged: it has {actual:,} bytes, not {expected:,}"
            )
        return header

    def _bytes(self, offset: int, size: int) -> bytearray:
        """Return `size` bytes of the file, or fewer at its end."""
        collected = bytearray()
        try:
            while len(collected) < size:
                piece = os.pread(self._descriptor, size - len(collected), offset + len(collected))
                if not piece:
                    break
                collected += piece
        except OSError as error:
            raise disk_error(f"the file {self.name} cannot be read", error) from error
        return collected


@dataclass(frozen=True, slots=True)
class _Header:
    dtype: np.dtype[np.void]
    count: int
    size: int


# Row files are opened once a batch, and parsing a header takes longer than reading it.
@lru_cache(maxsize=128)
def _parsed_header(header: bytes) -> _Header | None:
    """Parse the header of a row file; None for other bytes."""
    buffer = io.BytesIO(header)
    try:
        if np.lib.format.read_magic(buffer) != (1, 0):
            return None
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(
            buffer, max_header_size=_MAX_HEADER_BYTES
        )
    except Exception:  # NumPy raises many kinds of errors for damaged bytes
        return None
    if fortran_order or len(shape) != 1 or dtype.names is None or dtype.hasobject:
        return None
    return _Header(dtype, shape[0], buffer.tell())
