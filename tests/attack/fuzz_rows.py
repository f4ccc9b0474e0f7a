"""Any bytes as an upload: items that are within all bounds, or a BadRowError and no file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from hotloop.app.errors import BadRowError
from hotloop.app.sources.csv_rows import CsvRows
from hotloop.app.sources.ndjson_rows import NdjsonRows
from hotloop.app.sources.row_columns import row_columns
from hotloop.app.sources.rows import CSV, NDJSON, RowFormat, ingest
from hotloop.app.sources.upload_lines import chunk_texts, line_text, upload_lines

MAX_ROWS: Final = 100
_CSV_HEAD: Final = b"item_id,value,offset\n"


def read_csv(data: bytes, folder: Path) -> None:
    """Every second input gets the head, without which nearly none would come to its rows."""
    _read(_CSV_HEAD + data if len(data) % 2 else data, CSV, folder)


def read_ndjson(data: bytes, folder: Path) -> None:
    _read(data, NDJSON, folder)


def _read(upload: bytes, media_type: str, folder: Path) -> None:
    path, items = folder / "upload", folder / "items"
    path.write_bytes(upload)
    items.unlink(missing_ok=True)
    refusal: BadRowError | None
    try:
        count = ingest(path, media_type, items, "loops", MAX_ROWS)
    except BadRowError as error:
        count, refusal = 0, error
    else:
        refusal = None
    assert items.exists() == (refusal is None), "a refused upload left a file, or a good one none"
    if refusal is None:
        assert 1 <= count <= MAX_ROWS
    else:
        assert (refusal.line or 0) >= 1
        assert str(refusal)
    _compare_chunk_and_rows(path, media_type)


def _compare_chunk_and_rows(path: Path, media_type: str) -> None:
    """Reading by chunks and row by row gives the same items, to the bit."""
    columns = row_columns("loops")
    with path.open("rb") as file:
        lines = list(upload_lines(file))
    rows: RowFormat
    try:
        if media_type == CSV:
            rows = CsvRows(columns, lines.pop(0) if lines else None)
        else:
            rows = NdjsonRows(columns)
    except BadRowError:
        return
    texts = chunk_texts(lines) if lines else None
    parsed = None if texts is None else rows.parse_chunk(texts)
    if parsed is None:
        return
    singly = [rows.parse_row(line[0], line_text(line)) for line in lines]
    for column in columns:
        wanted = np.array([row[column.name] for row in singly], dtype=column.dtype)
        assert parsed[column.name].tobytes() == wanted.tobytes(), column.name
