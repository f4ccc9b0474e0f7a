"""Results as an Arrow IPC stream: binary columns, which readers take over without parsing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.tasks.chunks import ResultColumns, ResultRows

ARROW: Final = "application/vnd.apache.arrow.stream"
"""The media type."""


def arrow_stream(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """The stream, in pieces of a schema, of a record batch for each block, and of its end mark.

    `item_id` is a non-null int64; the output columns are null where the item failed, and floats
    that are not finite stay as they are. `blocks` are those of a ResultsReader, whose StoreError
    passes: the stream then has no end mark, so that nobody takes it for complete.
    """
    # Here, so that only a process that is asked for it loads it.
    import nanoarrow as na
    from nanoarrow.c_array_stream import CArrayStream
    from nanoarrow.ipc import StreamWriter

    types = {name: getattr(na, dtype)() for name, dtype in columns}
    schema = na.c_schema(na.struct({"item_id": na.int64(nullable=False), **types}, nullable=False))

    def array(type_: Any, values: npt.NDArray[Any], valid: npt.NDArray[np.uint8] | None) -> Any:
        return na.c_array_from_buffers(type_, len(values), [valid, values])

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


class _Pieces:
    """The file that the writer writes to."""

    def __init__(self) -> None:
        self._held: list[bytes] = []

    def write(self, data: Any) -> int:
        """`data` is a buffer of the writer's, valid during the call."""
        self._held.append(bytes(data))
        return len(self._held[-1])

    def take(self) -> bytes:
        """All that was written since the last call."""
        taken, self._held = b"".join(self._held), []
        return taken
