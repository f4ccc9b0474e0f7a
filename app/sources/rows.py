"""Reading an upload into an item file: rows are read, checked and stored in chunks.

Memory does not depend on the size of the upload. A chunk is converted as a whole; only if that
fails are its rows read one by one, to report the first bad row. Item ids may repeat: an id names an
item for the client, and the service identifies items by position.
"""

from __future__ import annotations

import hashlib
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from hotloop.app.disk import disk_error
from hotloop.app.errors import BadRowError, DamagedFileError, InvalidRequestError
from hotloop.app.names import ITEM_ID
from hotloop.app.sources.base import Columns
from hotloop.app.sources.csv_rows import CsvRows
from hotloop.app.sources.item_file import new_item_file
from hotloop.app.sources.ndjson_rows import NdjsonRows
from hotloop.app.sources.row_columns import RowColumn, row_columns
from hotloop.app.sources.upload_lines import (
    Line,
    chunk_texts,
    chunks,
    line_text,
    most_line_bytes,
    upload_lines,
)

CSV: Final = "text/csv"
NDJSON: Final = "application/x-ndjson"
MEDIA_TYPES: Final = (CSV, NDJSON)


class RowFormat(Protocol):
    """A reader of rows in one format; `parse_chunk` accepts nothing that `parse_row` refuses."""

    def parse_chunk(self, texts: list[str]) -> Columns | None: ...

    def parse_row(self, line: int, text: str) -> dict[str, Any]: ...


def ingest(
    upload_path: str | Path,
    media_type: str,
    items_path: str | Path,
    workload: str,
    max_rows: int,
    sha256: str | None = None,
) -> int:
    """Read the upload into a new item file and return the number of items, at least 1.

    `media_type` is one of MEDIA_TYPES, without parameters. The first row that cannot be used, or
    is one more than `max_rows`, raises BadRowError; another media type InvalidRequestError; a
    disk that refuses StoreError; an upload of another digest than `sha256`, if that is given,
    DamagedFileError. An error leaves no part of an item file.
    """
    if media_type not in MEDIA_TYPES:
        raise InvalidRequestError(
            "media_type", f"{media_type!r} cannot be read; send one of {', '.join(MEDIA_TYPES)}"
        )
    columns = row_columns(workload)
    with _opened(upload_path) as upload, new_item_file(items_path, workload) as items:
        if sha256 not in (None, hashlib.file_digest(upload, "sha256").hexdigest()):
            raise DamagedFileError("the upload on disk is not as it was received")
        upload.seek(0)
        lines = upload_lines(upload, most_line_bytes(columns))
        rows: RowFormat
        rows = CsvRows(columns, next(lines, None)) if media_type == CSV else NdjsonRows(columns)
        for chunk in chunks(lines):
            room = max_rows - items.count
            if room > 0:
                parsed = _parsed(rows, columns, chunk[:room])
                items.append(parsed.pop(ITEM_ID.name), parsed)
            if len(chunk) > room:
                raise BadRowError(
                    chunk[room][0],
                    None,
                    f"is one row more than the {max_rows:,} allowed; send several uploads",
                )
        if items.count == 0:
            raise BadRowError(1, None, "the upload has no rows; give at least one item")
    return items.count


def _opened(upload_path: str | Path) -> BufferedReader:
    try:
        return Path(upload_path).open("rb")
    except OSError as error:
        raise disk_error("the upload cannot be read", error) from error


def _parsed(rows: RowFormat, columns: tuple[RowColumn, ...], chunk: list[Line]) -> Columns:
    most_bytes = most_line_bytes(columns)
    texts = chunk_texts(chunk, most_bytes)
    parsed = None if texts is None else rows.parse_chunk(texts)
    if parsed is None:
        accepted = [rows.parse_row(line[0], line_text(line, most_bytes)) for line in chunk]
        parsed = {
            column.name: np.array([row[column.name] for row in accepted], dtype=column.dtype)
            for column in columns
        }
    return parsed
