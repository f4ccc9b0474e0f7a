"""Handing a run to the service, over items that it makes up or over a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from app.cli.exits import CommandError
from app.cli.stopping import StopSignals

if TYPE_CHECKING:
    from app.cli.service_client import ServiceClient

TASKS: Final = "/api/v1/tasks"
AUTO: Final = "auto"
_PIECE_BYTES: Final = 256 * 1024
_MEDIA_TYPES: Final = {
    ".csv": "text/csv",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}


def submit(
    client: ServiceClient, strategy: str, body: dict[str, Any], signals: StopSignals
) -> dict[str, Any]:
    """The accepted task. A signal waits until its id is known: nothing is started and forgotten."""
    with signals.held():
        task: dict[str, Any] = client.call(
            "POST", f"{TASKS}/background", body=body | {"strategy": strategy}
        )
    return task


def submit_file(
    client: ServiceClient, strategy: str, body: dict[str, Any], path: Path, signals: StopSignals
) -> dict[str, Any]:
    """As `submit`, for the items of a file. A signal breaks the transfer off, and then nothing is
    accepted.
    """
    with opened(path) as file:
        task: dict[str, Any] = client.call(
            "POST",
            f"{TASKS}/upload",
            query=upload_query(strategy, body),
            headers={"Prefer": "respond-async", "Content-Type": media_type(path)},
            content=_pieces(file, signals),
        )
        signals.release()
    return task


def opened(path: Path) -> IO[bytes]:
    """Raises CommandError for a file that cannot be read."""
    try:
        return path.open("rb")
    except OSError as error:
        raise CommandError(f"--file {path}: {error.strerror}") from error


def media_type(path: Path) -> str:
    """Raises CommandError for an ending that says nothing."""
    try:
        return _MEDIA_TYPES[path.suffix.lower()]
    except KeyError:
        raise CommandError(
            f"--file must end in {', '.join(_MEDIA_TYPES)} (got {path.name}); the ending says how "
            "it is read"
        ) from None


def upload_query(strategy: str, body: dict[str, Any]) -> dict[str, Any]:
    """A run's body as the query of an upload: flat, and with words for true and false."""
    flat = {k: v for k, v in body.items() if k != "parameters"} | body.get("parameters", {})
    query = {k: json.dumps(v) if isinstance(v, bool) else v for k, v in flat.items()}
    # An upload has no `auto`: the service's own choice is had by leaving it out.
    return query if strategy == AUTO else query | {"strategy": strategy}


def _pieces(file: IO[bytes], signals: StopSignals) -> Iterator[bytes]:
    while piece := file.read(_PIECE_BYTES):
        yield piece
    # From here on the service may accept; `submit_file` lets signals through again.
    signals.hold()
