"""Items and results as columns: NumPy arrays, and the tables of pandas, polars and pyarrow.

A library is imported only if a table of it comes or is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hotloop.app.errors import InvalidRequestError
from hotloop.app.sources.base import ItemError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Values = Any
"""A mapping of names to arrays or sequences, all of one length; a DataFrame of pandas or polars; a
Table or RecordBatch of pyarrow; or a sequence of mappings, one for each item."""

_ITEM_ID: Final = "item_id"


@dataclass(frozen=True, slots=True)
class Results:
    """The outputs of some items, in their order."""

    columns: Mapping[str, npt.NDArray[Any]]
    """An array of shape (n,) for each output; the rows of failed items mean nothing."""
    failed: npt.NDArray[np.bool_]
    """True for each item that failed; shape (n,)."""
    errors: tuple[ItemError, ...]
    """Why items failed, at most 100."""
    kernel: str
    task_id: str | None
    """The task as which the work is stored; None if nothing was to be stored."""
    item_ids: npt.NDArray[np.int64] | None = None
    """The ids of the items, shape (n,); None for their places, from 0."""

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """Return the output with this name."""
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.failed)

    def _ids(self) -> npt.NDArray[np.int64]:
        return np.arange(len(self), dtype=np.int64) if self.item_ids is None else self.item_ids

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with `item_id` and the outputs, missing where an item failed."""
        import pandas as pd

        columns = {name: pd.Series(values) for name, values in self.columns.items()}
        if self.failed.any():
            failed = pd.Series(self.failed)
            columns = {name: column.mask(failed) for name, column in columns.items()}
        return pd.DataFrame({_ITEM_ID: self._ids(), **columns})

    def to_polars(self) -> pl.DataFrame:
        """Return a DataFrame with `item_id` and the outputs, null where an item failed."""
        import polars as pl

        found = pl.DataFrame({_ITEM_ID: self._ids(), **self.columns})
        if not self.failed.any():
            return found
        good = pl.Series(~self.failed)
        return found.with_columns(pl.when(good).then(pl.col(name)) for name in self.columns)

    def to_arrow(self) -> pa.Table:
        """Return a Table with `item_id` and the outputs, null where an item failed."""
        import pyarrow as pa

        mask = self.failed if self.failed.any() else None
        columns = {name: pa.array(values, mask=mask) for name, values in self.columns.items()}
        return pa.table({_ITEM_ID: pa.array(self._ids()), **columns})


def columns_of(values: Values) -> dict[str, Any]:
    """Return items as a mapping of names to arrays or sequences. Raises InvalidRequestError for
    something that is no table.
    """
    library = type(values).__module__.partition(".")[0]
    if library in ("pandas", "polars"):
        return {str(name): _stacked(values[name].to_numpy()) for name in values.columns}
    if library == "pyarrow":
        names = values.schema.names
        return {name: _stacked(values[name].to_numpy(zero_copy_only=False)) for name in names}
    if isinstance(values, Mapping):
        return {str(name): column for name, column in values.items()}
    if isinstance(values, Sequence) and all(isinstance(row, Mapping) for row in values):
        names = list(values[0]) if values else []
        return {name: [row[name] for row in values] for name in names}
    text = "items must be columns by name, a DataFrame, a Table, or a sequence of mappings"
    raise InvalidRequestError("items", f"{text}, not {type(values).__name__}")


def _stacked(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a column of vectors, which tables hold as objects, as one array."""
    return np.stack(list(column)) if column.dtype == object and len(column) else column


def length_of(columns: Mapping[str, Any]) -> int:
    """Return the number of items. Raises InvalidRequestError if columns differ in it."""
    lengths = {name: len(column) for name, column in columns.items()}
    if not lengths or min(lengths.values()) == 0:
        raise InvalidRequestError("items", "there must be at least one item, with its columns")
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InvalidRequestError("items", f"all columns must have one length; got {told}")
    return next(iter(lengths.values()))


def rows_of(columns: Mapping[str, Any], *, with_ids: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the items as rows of JSON; `with_ids` with their places as ids, if they have none."""
    if with_ids and _ITEM_ID not in columns:
        columns = {_ITEM_ID: range(length_of(columns)), **columns}
    lists = [_plain(column) for column in columns.values()]
    for row in zip(*lists, strict=True):
        yield dict(zip(columns, row, strict=True))


def _plain(column: Any) -> list[Any]:
    if isinstance(column, np.ndarray):
        found: list[Any] = column.tolist()
        return found
    return [value.item() if isinstance(value, np.generic) else value for value in column]


def in_pieces(rows: Iterator[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield rows in lists of `size`; the last may be shorter."""
    while piece := list(islice(rows, size)):
        yield piece


def read_arrow(
    data: bytes,
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
    """Read an Arrow IPC stream of results: the ids, the output columns, and which items failed."""
    import nanoarrow as na

    stream = na.ArrayStream.from_readable(data)
    names = [stream.schema.field(number).name for number in range(stream.schema.n_fields)]
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    failed = [np.empty(0, dtype=np.bool_)]
    for batch in stream:
        for view in batch.iter_chunk_views():
            missing = np.zeros(view.length, dtype=np.bool_)
            for number, name in enumerate(names):
                validity, values = view.child(number).buffers
                is_bits = values.data_type == "bool"
                parts[name].append(_bits(values, view.length) if is_bits else np.array(values))
                if name != _ITEM_ID and validity.size_bytes:
                    missing = ~_bits(validity, view.length)
            failed.append(missing)
    columns = {name: np.concatenate(found) for name, found in parts.items() if found}
    ids: npt.NDArray[np.int64] = columns.pop(_ITEM_ID, np.empty(0, dtype=np.int64))
    return ids, columns, np.concatenate(failed)


def _bits(buffer: Any, count: int) -> npt.NDArray[np.bool_]:
    """Return the first `count` bits of an Arrow buffer."""
    packed = np.frombuffer(bytes(memoryview(buffer).cast("B")), dtype=np.uint8)
    return np.unpackbits(packed, bitorder="little")[:count].astype(np.bool_)
