"""The lines of an upload, read in constant memory whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from hotloop.app.errors import BadRowError
from hotloop.app.sources.row_columns import RowColumn

MAX_LINE_BYTES: Final = 65_536
"""Bytes of the longest line without vectors."""
VALUE_BYTES: Final = 32
"""Bytes that a value of a vector may take, with what parts it from the next one."""
CHUNK_ROWS: Final = 4_096
"""Rows of a chunk; more at once are not faster, fewer are slower."""
CHUNK_BYTES: Final = 1 << 20
"""Most bytes of a chunk before its last line."""

Line = tuple[int, bytes]
"""A line: its number in the file, from 1, and its bytes without the line end."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def most_line_bytes(columns: Iterable[RowColumn]) -> int:
    """Return the bytes of the longest line of a file with these columns."""
    return MAX_LINE_BYTES + VALUE_BYTES * sum(column.width or 0 for column in columns)


def upload_lines(file: BinaryIO, most_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines that are not blank, without a byte order mark at the start of the file.

    Lines end in LF or CRLF. One longer than `most_bytes` is cut somewhere beyond that, and is the
    last one given: `line_text` refuses it.
    """
    number = 0
    while line := file.readline(most_bytes + 2):
        number += 1
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        line = line.rstrip(b"\r\n")
        if len(line) > most_bytes:
            yield number, line
            return
        if line and not line.isspace():
            yield number, line


def chunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """The lines in groups of at most CHUNK_ROWS, and of few when they are long."""
    chunk: list[Line] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line[1])
        if len(chunk) == CHUNK_ROWS or size >= CHUNK_BYTES:
            yield chunk
            chunk = []
            size = 0
    if chunk:
        yield chunk


def line_text(line: Line, most_bytes: int = MAX_LINE_BYTES) -> str:
    """The line as text. BadRowError when it is too long, is not UTF-8 or has a NUL byte."""
    number, raw = line
    if len(raw) > most_bytes:
        raise BadRowError(
            number,
            None,
            f"is longer than {most_bytes:,} bytes; write one item on each line, "
            "and end lines with LF or CRLF",
        )
    if b"\0" in raw:
        raise BadRowError(number, None, "has a NUL byte; save the file as text in UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadRowError(
            number, None, f"byte {error.start + 1} is not UTF-8; save the file as text in UTF-8"
        ) from None


def chunk_texts(chunk: list[Line], most_bytes: int = MAX_LINE_BYTES) -> list[str] | None:
    """`line_text` of all lines, quickly; None when it refuses one."""
    raws = [raw for _, raw in chunk]
    joined = b"\n".join(raws)
    if max(map(len, raws)) > most_bytes or b"\0" in joined:
        return None
    try:
        return joined.decode().split("\n")
    except UnicodeDecodeError:
        return None
