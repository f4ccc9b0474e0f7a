"""Results saved as a file: complete, or not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from hotloop.app.cli.exits import CommandError

if TYPE_CHECKING:
    from hotloop.app.cli.screen import Screen

FORMATS: Final = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".arrow": "arrow",
    ".arrows": "arrow",
}
"""By the ending of the file's name."""


def format_of(path: Path) -> str:
    """Raises CommandError for an ending that no format has."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise CommandError(
            f"--output must end in {', '.join(FORMATS)} (got {path.name}); the ending says how "
            "the results are written"
        ) from None


def check_writable(path: Path) -> None:
    """Raises CommandError now for what would fail after the work was done."""
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CommandError(f"{path} cannot be written: its folder must be there and writable")


@contextmanager
def written(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when the block has ended well."""
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
    """Raises CommandError, and what reading the pieces raises."""
    with screen.waiting(f"saving {path.name}") as say, written(path) as file:
        for piece in pieces:
            file.write(piece)
            say(f"saving {path.name}: {file.tell() / 2**20:,.1f} MiB")


def pour(pieces: Iterator[bytes], screen: Screen) -> None:
    """Write everything to the output; what is waited for is the first piece."""
    with screen.waiting("asking for the results"):
        first = next(pieces, b"")
    sys.stdout.buffer.write(first)
    for piece in pieces:
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()
