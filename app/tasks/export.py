"""Results as text: NDJSON or CSV, in the order of items, piece by piece.

Items that were not processed are left out; of those that failed only the id is known. Floats are
written with as many digits as it takes to read the same float back.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from app.row_file import Rows
from app.tasks.results import DONE, NOT_PROCESSED, ResultsReader


def ndjson_lines(reader: ResultsReader) -> Iterator[bytes]:
    """A line `{"item_id":0,"loop":-27.4,"nested":9388000}` for each item, in pieces of about
    64 KiB; null where the item failed. StoreError when the file is damaged meanwhile.
    """
    fields = ",".join(f'"{name}":%s' for name in ("item_id", *reader.columns))
    return _lines(reader, f"{{{fields}}}\n", missing="null")


def csv_lines(reader: ResultsReader) -> Iterator[bytes]:
    """A header line, then one for each item, in pieces of about 64 KiB; empty fields where the
    item failed. Lines end in LF. StoreError when the file is damaged meanwhile.
    """
    names = ("item_id", *reader.columns)
    yield f"{','.join(names)}\n".encode()
    yield from _lines(reader, f"{','.join(['%s'] * len(names))}\n", missing="")


def _lines(reader: ResultsReader, line: str, missing: str) -> Iterator[bytes]:
    for chunk in reader.rows():
        rows = chunk[chunk["state"] != NOT_PROCESSED]
        item_ids = [str(item_id) for item_id in rows["item_id"].tolist()]
        columns = [item_ids, *(_texts(rows, name, missing) for name in reader.columns)]
        if len(rows):
            yield "".join(map(line.__mod__, zip(*columns, strict=True))).encode()


def _texts(rows: Rows, name: str, missing: str) -> list[str]:
    """The column's values as text. A value that JSON cannot hold counts as missing."""
    values = rows[name]
    texts = [repr(value) for value in values.tolist()]
    for position in np.flatnonzero((rows["state"] != DONE) | ~np.isfinite(values)):
        texts[position] = missing
    return texts
