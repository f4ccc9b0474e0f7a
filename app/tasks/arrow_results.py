"""The results of a task as an Arrow IPC stream, and as Parquet.

Like the exports as text, both leave out items that were not processed. Output columns are null
where an item failed. The libraries are imported by the export that needs one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from hotloop.app.tasks.chunks import ResultColumns, ResultRows


def arrow_stream(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """Yield the stream in pieces: the schema, a record batch for each block, and the end mark.

    `item_id` is a non-null int64; the output columns are null where the item failed, and floats
    that are not finite stay as they are. `blocks` are those of a ResultsReader, whose StoreError
    passes: the stream then has no end mark, so that no reader takes it for complete.
    """
    import nanoarrow as na
    from nanoarrow.c_array_stream import CArrayStream
    from nanoarrow.ipc import StreamWriter

    types = {name: getattr(na, "bool_" if dtype == "bool" else dtype)() for name, dtype in columns}
    schema = na.c_schema(na.struct({"item_id": na.int64(nullable=False), **types}, nullable=False))

    def array(type_: Any, values: npt.NDArray[Any], valid: npt.NDArray[np.uint8] | None) -> Any:
        data = np.packbits(values, bitorder="little") if values.dtype == bool else values
        return na.c_array_from_buffers(type_, len(values), [valid, data])

    pieces = _Pieces()
    writer = StreamWriter.from_writable(pieces)
    try:
        writer.write_stream(CArrayStream.from_c_arrays([], schema))
        yield pieces.take()
        for rows in blocks:
            valid = np.packbits(~rows.failed, bitorder="little") if rows.failed.any() else None
            children = [array(na.int64(), rows.item_ids, None)]
            children += [array(types[name], rows.columns[name], valid) for name in types]
            batch = na.c_array_from_buffers(schema, len(rows), [None], children=children)
            writer.write_array(batch)
            yield pieces.take()
        writer.close()
        yield pieces.take()
    finally:
        writer.release()  # without an end mark, unless it was closed


def parquet_file(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """Yield a Parquet file in pieces: a row group for each block, then the footer.

    Columns and nulls are those of `arrow_stream`. `blocks` are those of a ResultsReader, whose
    StoreError passes: the file then has no footer, and no reader opens it. Needs pyarrow.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = {name: pa.from_numpy_dtype(dtype) for name, dtype in columns}
    ids = pa.field("item_id", pa.int64(), nullable=False)
    schema = pa.schema([ids, *types.items()])
    pieces = _Pieces()
    writer = ParquetWriter(pa.PythonFile(pieces, "w"), schema)
    for rows in blocks:
        arrays = [pa.array(rows.columns[name], mask=rows.failed) for name in types]
        writer.write_batch(pa.record_batch([pa.array(rows.item_ids), *arrays], schema=schema))
        yield pieces.take()
    writer.close()
    yield pieces.take()


class _Pieces:
    """The file-like object that a writer writes to."""

    closed = False

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: Any) -> int:
        """Copy `data`, a buffer of the writer that is valid during the call only."""
        self._held.append(bytes(data))
        return len(self._held[-1])

    def take(self) -> bytes:
        """Return everything that was written since the last call."""
        taken, self._held = b"".join(self._held), []
        return taken
