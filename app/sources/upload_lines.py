"""The lines of an upload, read in constant memory whatever the file holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from hotloop.app.errors import BadRowError

MAX_LINE_BYTES: Final = 65_536
CHUNK_ROWS: Final = 4_096
"""Rows of a chunk; more at once are not faster, fewer are slower."""
CHUNK_BYTES: Final = 1 << 20
"""Most bytes of a chunk before its last line."""

Line = tuple[int, bytes]
"""A line: its number in the file, from 1, and its bytes without the line end."""

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


def upload_lines(file: BinaryIO) -> Iterator[Line]:
    """The lines that are not blank, without a byte order mark at the start of the file.

    Lines end in LF or CRLF. One longer than MAX_LINE_BYTES is cut somewhere beyond that, and is
    the last one given: `line_text` refuses it.
    """
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 2):
        number += 1
        if number == 1:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        line = line.rstrip(b"\r\n")
        if len(line) > MAX_LINE_BYTES:
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


def line_text(line: Line) -> str:
    """The line as text. BadRowError when it is too long, is not UTF-8 or has a NUL byte."""
    number, raw = line
    if len(raw) > MAX_LINE_BYTES:
        raise BadRowError(
            number,
            None,
            f"is longer than {MAX_LINE_BYTES:,} bytes; write one item on each line, "
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


def chunk_texts(chunk: list[Line]) -> list[str] | None:
    """`line_text` of all lines, quickly; None when it refuses one."""
    raws = [raw for _, raw in chunk]
    joined = b"\n".join(raws)
    if max(map(len, raws)) > MAX_LINE_BYTES or b"\0" in joined:
        return None
    try:
        return joined.decode().split("\n")
    except UnicodeDecodeError:
        return None
