"""Reading an upload into an item file: rows are read, checked and stored in chunks.

Memory does not depend on the size of the upload. A chunk is converted as a whole; only if that
fails are its rows read one by one, to report the first bad row. Item ids may repeat: an id names an
item for the client, and the service identifies items by position.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from hotloop.app.disk import disk_error
from hotloop.app.errors import BadRowError, DamagedFileError, InvalidRequestError
from hotloop.app.names import ITEM_ID
from hotloop.app.sources.arrow_process import Job, read_apart
from hotloop.app.sources.arrow_rows import ARROW_TYPES, HOW_TO_INSTALL, has_pyarrow
from hotloop.app.sources.base import Columns
from hotloop.app.sources.csv_rows import CsvRows
from hotloop.app.sources.item_file import item_dtype, new_item_file
from hotloop.app.sources.ndjson_rows import NdjsonRows
from hotloop.app.sources.row_columns import RowColumn, row_columns, too_many_rows
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


def media_types() -> tuple[str, ...]:
    """Return the media types that can be read here: those of pyarrow only if it is installed."""
    return MEDIA_TYPES + (ARROW_TYPES if has_pyarrow() else ())


def ingest(
    upload_path: str | Path,
    media_type: str,
    items_path: str | Path,
    workload: str,
    max_rows: int,
    sha256: str | None = None,
    max_bytes: int | None = None,
) -> int:
    """Read the upload into a new item file and return the number of items, at least 1.

    `media_type` is one of `media_types()`, without parameters. The first row that cannot be used,
    or is one more than `max_rows`, raises BadRowError; so does one whose items, read from Arrow or
    Parquet, exceed `max_bytes`. Another media type raises InvalidRequestError; a disk that refuses
    StoreError; an upload of another digest than `sha256`, if that is given, DamagedFileError. An
    error leaves no part of an item file.
    """
    if media_type not in media_types():
        install = "" if has_pyarrow() else f"; Arrow and Parquet need {HOW_TO_INSTALL}"
        raise InvalidRequestError(
            "media_type",
            f"{media_type!r} cannot be read; send one of {', '.join(media_types())}{install}",
        )
    columns = row_columns(workload)
    with _opened(upload_path) as upload, new_item_file(items_path, workload) as items:
        if sha256 not in (None, hashlib.file_digest(upload, "sha256").hexdigest()):
            raise DamagedFileError("the upload on disk is not as it was received")
        if media_type in ARROW_TYPES:
            if max_bytes is not None:
                # A few bytes of Parquet may stand for any number of rows.
                max_rows = min(max_rows, max(1, max_bytes // item_dtype(workload).itemsize))
            parts = read_apart(Job(Path(upload_path), media_type, columns, max_rows))
        else:
            upload.seek(0)
            parts = _text_parts(upload, media_type, columns, max_rows)
        with closing(parts):
            for parsed in parts:
                items.append(parsed.pop(ITEM_ID.name), parsed)
        if items.count == 0:
            text = "the upload has no rows; give at least one item"
            raise BadRowError(None if media_type in ARROW_TYPES else 1, None, text)
    return items.count


def _text_parts(
    upload: BufferedReader, media_type: str, columns: tuple[RowColumn, ...], max_rows: int
) -> Generator[Columns, None, None]:
    lines = upload_lines(upload, most_line_bytes(columns))
    rows: RowFormat
    rows = CsvRows(columns, next(lines, None)) if media_type == CSV else NdjsonRows(columns)
    room = max_rows
    for chunk in chunks(lines):
        if room > 0:
            yield _parsed(rows, columns, chunk[:room])
        if len(chunk) > room:
            raise too_many_rows(chunk[room][0], max_rows)
        room -= len(chunk)


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
