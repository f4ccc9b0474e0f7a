"""Results as text: NDJSON or CSV, in the order of items, piece by piece.

Items that were not processed are left out; of those that failed only the id is known. Floats are
written with as many digits as it takes to read the same float back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from hotloop.app.tasks.chunks import ResultColumns, ResultRows

PIECE_ROWS: Final = 1_024
"""About 64 KiB of text, for the workloads so far."""


def ndjson_lines(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """A line `{"item_id":0,"loop":-27.4,"nested":9388000}` for each item, in pieces of about
    64 KiB; null where the item failed. `blocks` are those of a ResultsReader, whose StoreError
    passes.
    """
    names = ["item_id", *(name for name, _ in columns)]
    fields = ",".join(f'"{name}":%s' for name in names)
    return _lines(names[1:], blocks, f"{{{fields}}}\n", missing="null")


def csv_lines(columns: ResultColumns, blocks: Iterable[ResultRows]) -> Iterator[bytes]:
    """A header line, then one for each item, in pieces of about 64 KiB; empty fields where the
    item failed. Lines end in LF. As `ndjson_lines` otherwise.
    """
    names = ["item_id", *(name for name, _ in columns)]
    yield f"{','.join(names)}\n".encode()
    yield from _lines(names[1:], blocks, f"{','.join(['%s'] * len(names))}\n", missing="")


def _lines(
    names: Sequence[str], blocks: Iterable[ResultRows], line: str, missing: str
) -> Iterator[bytes]:
    for block in blocks:
        for start in range(0, len(block), PIECE_ROWS):
            rows = block.part(start, start + PIECE_ROWS)
            item_ids = [str(item_id) for item_id in rows.item_ids.tolist()]
            columns = [item_ids, *(_texts(rows, name, missing) for name in names)]
            yield "".join(map(line.__mod__, zip(*columns, strict=True))).encode()


def _texts(rows: ResultRows, name: str, missing: str) -> list[str]:
    """The column's values as text. A value that JSON cannot hold counts as missing."""
    values = rows.columns[name]
    texts = [repr(value) for value in values.tolist()]
    for position in np.flatnonzero(rows.failed | ~np.isfinite(values)):
        texts[position] = missing
    return texts
