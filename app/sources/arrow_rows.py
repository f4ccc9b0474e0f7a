"""Rows in Arrow IPC (stream or file) and in Parquet, read batch by batch.

Columns are found by name, in any order. A column must have a type that holds nothing which the
declared type cannot hold: integers for an integer column, for a float column integers or floats
of at most its size. Nulls are refused. Rows are counted from 1.

Reading is native code over bytes of a client: only the process of `arrow_process` may do it.
pyarrow is an extra, and is imported here where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.errors import BadRowError
from hotloop.app.sources.base import Columns
from hotloop.app.sources.row_columns import RowColumn, check_names, shortened, too_many_rows

ARROW: Final = "application/vnd.apache.arrow.stream"
ARROW_FILE: Final = "application/vnd.apache.arrow.file"
PARQUET: Final = "application/vnd.apache.parquet"
ARROW_TYPES: Final = (ARROW, ARROW_FILE, PARQUET)

HOW_TO_INSTALL: Final = 'pip install "hotloop[arrow]"'

CHUNK_ROWS: Final = 65_536
CHUNK_BYTES: Final = 4 << 20
"""Bytes of the columns of a chunk, unless one row has more."""

_FILE_MAGIC: Final = b"ARROW1"
_END_MARK: Final = b"\xff\xff\xff\xff\0\0\0\0"
_ERROR_CHARACTERS: Final = 200
_NULL: Final = "a value is null; give every row its value"


def has_pyarrow() -> bool:
    """Return True if pyarrow is installed, without importing it."""
    return find_spec("pyarrow") is not None


def arrow_chunks(
    path: Path, media_type: str, columns: Sequence[RowColumn], max_rows: int
) -> Iterator[Columns]:
    """Yield the columns of the rows in chunks of at least 1 row and about CHUNK_BYTES.

    `media_type` is one of ARROW_TYPES; whether Arrow is a stream or a file is read from its bytes.
    Raises BadRowError for the first row that cannot be used, one row more than `max_rows`, other
    columns, and bytes that pyarrow cannot read; MemoryError.
    """
    rows_at_once = _rows_at_once(columns)
    row = 0
    try:
        names, batches = _opened(path, media_type, rows_at_once)
    except MemoryError:
        raise
    except Exception as error:  # pyarrow raises errors of many classes for hostile bytes
        raise _unreadable(None, error) from None
    check_names(None, names, columns)
    by_name = {column.name: column for column in columns}
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)  # or offsets and indices may lead outside of its memory
        except MemoryError:
            raise
        except Exception as error:
            raise _unreadable(row + 1, error) from None
        ordered = [by_name[name] for name in names]
        while batch.num_rows:
            if row == max_rows:
                raise too_many_rows(row + 1, max_rows, "row")
            part = batch.slice(0, min(rows_at_once, max_rows - row))
            yield _columns(ordered, part, row + 1)
            row += part.num_rows
            batch = batch.slice(part.num_rows)


def _rows_at_once(columns: Iterable[RowColumn]) -> int:
    row_bytes = sum(np.dtype(column.dtype).itemsize * (column.width or 1) for column in columns)
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // row_bytes))


def _opened(path: Path, media_type: str, rows_at_once: int) -> tuple[list[str], Iterator[Any]]:
    """Return the names of the columns, and the record batches."""
    import pyarrow as pa

    # Mapped, so that what is not compressed takes no memory of this process.
    source = pa.memory_map(str(path))
    if media_type == PARQUET:
        from pyarrow.parquet import ParquetFile

        parquet = ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        return parquet.schema_arrow.names, _parquet_batches(parquet, rows_at_once)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if source.read(len(_FILE_MAGIC)) == _FILE_MAGIC:
        file = pa.ipc.open_file(source, options=options)
        return file.schema.names, map(file.get_batch, range(file.num_record_batches))
    source.seek(0)
    stream = pa.ipc.open_stream(source, options=options)
    return stream.schema.names, _stream_batches(stream, source)


def _parquet_batches(file: Any, rows_at_once: int) -> Iterator[Any]:
    rows = 0
    for batch in file.iter_batches(rows_at_once, use_threads=False):
        rows += batch.num_rows
        yield batch
    if rows != file.metadata.num_rows:
        raise ValueError(f"it has {rows:,} rows and claims {file.metadata.num_rows:,}")


def _stream_batches(stream: Any, source: Any) -> Iterator[Any]:
    yield from stream
    # pyarrow takes a stream that was cut short between two batches for a complete one.
    end = source.tell()
    source.seek(max(0, end - len(_END_MARK)))
    if source.read(len(_END_MARK)) != _END_MARK:
        raise ValueError("it ends without an end mark: it was cut short, or its writer not closed")
    if end != source.size():
        raise ValueError(f"{source.size() - end:,} bytes follow after its end mark")


def _columns(columns: Sequence[RowColumn], batch: Any, first_row: int) -> Columns:
    """Convert a batch; raises BadRowError for its first bad row. `columns` are in its order."""
    found: Columns = {}
    faults = []
    for column, values in zip(columns, batch.columns, strict=True):
        try:
            found[column.name] = _array(column, values, first_row)
        except BadRowError as error:
            faults.append(error)
    if faults:
        raise min(faults, key=lambda error: error.line or 0)
    return found


def _array(column: RowColumn, values: Any, first_row: int) -> npt.NDArray[Any]:
    """Convert the values of a column, of shape (n,) or (n, width). Raises BadRowError."""
    import pyarrow as pa

    def refused(index: int, text: str) -> BadRowError:
        return BadRowError(first_row + index // (column.width or 1), column.name, text, "row")

    def check(accepted: npt.NDArray[np.bool_], wrong: Callable[[int], str]) -> None:
        if not accepted.all():
            index = int(accepted.argmin())
            raise refused(index, wrong(index))

    fault: BadRowError | None = None
    if column.width is not None:
        length, text = _sound_lists(column, values)
        if text:
            fault = refused(length * column.width, text)
        values = values.slice(0, length).flatten()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    _check_type(column, values.type)
    if values.null_count:
        end = int(_is_valid(values).argmin())
        fault = refused(end, _NULL)
        values = values.slice(0, end)
    array: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False)
    if array.dtype.kind == "f":
        array = array.astype(column.dtype)
    check(
        (array >= column.minimum) & (array <= column.maximum),
        lambda index: column.out_of_bounds(first_row, repr(array[index].item())).text,
    )
    if array.dtype.kind in "iu" and np.dtype(column.dtype).kind == "f":
        exact = 2 ** (np.finfo(column.dtype).nmant + 1)
        check(
            (array >= -exact) & (array <= exact),
            lambda index: (
                f"{array[index]} is not held exactly by {column.dtype}; send floats, or integers "
                f"from {-exact:,} to {exact:,}"
            ),
        )
    if fault is not None:
        raise fault
    array = array.astype(column.dtype)  # a copy: the file may be unmapped before it is used
    return array if column.width is None else array.reshape(-1, column.width)


def _sound_lists(column: RowColumn, lists: Any) -> tuple[int, str]:
    """Return the number of lists before the first that cannot be used, and what is wrong with it.

    Raises BadRowError for values that are not lists.
    """
    import pyarrow as pa

    kind = lists.type
    wanted = f"give each row a list of {column.width} values"
    kinds = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    if not any(is_one(kind) for is_one in kinds):
        text = f"its type {shortened(str(kind))} is not a list; {wanted}"
        raise BadRowError(None, column.name, text)
    valid = _is_valid(lists)
    lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~valid | (lengths != column.width))
    if not wrong.size:
        return len(lists), ""
    row = int(wrong[0])
    return row, f"has {int(lengths[row])} values; {wanted}" if valid[row] else _NULL


def _is_valid(values: Any) -> npt.NDArray[np.bool_]:
    valid: npt.NDArray[np.bool_] = values.is_valid().to_numpy(zero_copy_only=False)
    return valid


def _check_type(column: RowColumn, arrow_type: Any) -> None:
    """Check that a type may become the column's; raises BadRowError."""
    import pyarrow as pa

    if column.dtype == "bool":
        fits, wanted = pa.types.is_boolean(arrow_type), "bool"
    elif column.is_integer:
        fits, wanted = pa.types.is_integer(arrow_type), f"{column.dtype} or another integer"
    else:
        wanted = f"{column.dtype}, a smaller float or an integer"
        fits = pa.types.is_integer(arrow_type) or (
            pa.types.is_floating(arrow_type)
            and arrow_type.bit_width <= np.dtype(column.dtype).itemsize * 8
        )
    if not fits:
        text = f"its type {shortened(str(arrow_type))} does not fit; cast it to {wanted}"
        raise BadRowError(None, column.name, text)


def _unreadable(row: int | None, error: Exception) -> BadRowError:
    words = shortened(" ".join(str(error).split()), _ERROR_CHARACTERS)
    text = f"pyarrow cannot read it: {words}; write the file again, and send all of it"
    return BadRowError(row, None, text, "row")
