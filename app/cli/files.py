"""Files that commands read items from and save results to."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

from hotloop.app.cli.exits import CommandError
from hotloop.app.cli.screen import Screen

_MEDIA_TYPES: Final = {
    ".csv": "text/csv",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
    ".arrow": "application/vnd.apache.arrow.file",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".parquet": "application/vnd.apache.parquet",
}

FORMATS: Final = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".parquet": "parquet",
}
"""Formats of results by the ending of the file's name."""


def format_of(path: Path) -> str:
    """The format of a results file by its ending. Raises CommandError for an unknown ending."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise CommandError(
            f"--output must end in {', '.join(FORMATS)} (got {path.name}); the ending says how "
            "the results are written"
        ) from None


def check_writable(path: Path) -> None:
    """Check before the work that a file can be written after it. Raises CommandError if not."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CommandError(f"{path} cannot be written: its folder must be there and writable")


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name only when the block succeeds."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def save(pieces: Iterator[bytes], path: Path, screen: Screen) -> None:
    """Write pieces to a file. Raises CommandError, and the errors of reading the pieces."""
    with screen.waiting(f"saving {path.name}") as say, written(path) as file:
        for piece in pieces:
            file.write(piece)
            say(f"saving {path.name}: {file.tell() / 2**20:,.1f} MiB")


def pour(pieces: Iterator[bytes], screen: Screen) -> None:
    """Write pieces to the output; the screen shows the wait for the first one."""
    with screen.waiting("asking for the results"):
        first = next(pieces, b"")
    sys.stdout.buffer.write(first)
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


def opened(path: Path) -> IO[bytes]:
    """Open a file of items. Raises CommandError if it cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise CommandError(f"--file {path}: {error.strerror}") from error


def media_type(path: Path) -> str:
    """A file's media type by its ending. Raises CommandError for an unknown ending."""
    try:
        return _MEDIA_TYPES[path.suffix.lower()]
    except KeyError:
        raise CommandError(
            f"--file must end in {', '.join(_MEDIA_TYPES)} (got {path.name}); the ending says how "
            "it is read"
        ) from None


def read_items(path: Path, workload: str) -> list[Mapping[str, Any]]:
    """Read the rows of a file for the body of a request, as the service reads an upload for this
    workload. Raises CommandError for a row that cannot be used, with its place.
    """
    from hotloop.app.errors import ServiceError
    from hotloop.app.schemas.declared import MAX_INLINE_ITEMS
    from hotloop.app.schemas.item_columns import ItemColumns
    from hotloop.app.sources.item_file import FileItems
    from hotloop.app.sources.rows import ingest

    kind = media_type(path)
    opened(path).close()
    with tempfile.TemporaryDirectory(prefix="hotloop-items-") as folder:
        items = str(Path(folder, "items"))
        try:
            count = ingest(path, kind, items, workload, MAX_INLINE_ITEMS)
        except ServiceError as error:
            raise CommandError(f"--file {path}: {error}") from error
        batch = FileItems(items, count).load(workload, 0, count)
        return list(ItemColumns(batch.item_ids, batch.columns))
