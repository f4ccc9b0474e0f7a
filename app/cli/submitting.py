"""Handing a run to the service, over items that it makes up or over a file."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from hotloop.app.cli.exits import CommandError
from hotloop.app.cli.stopping import StopSignals

if TYPE_CHECKING:
    from hotloop.app.cli.screen import Say, Screen
    from hotloop.app.cli.service_client import ServiceClient

TASKS: Final = "/api/v1/tasks"
AUTO: Final = "auto"
_PIECE_BYTES: Final = 256 * 1024
_MEDIA_TYPES: Final = {
    ".csv": "text/csv",
    ".ndjson": "application/x-ndjson",
    ".jsonl": "application/x-ndjson",
}


def submit(
    client: ServiceClient,
    strategy: str,
    body: dict[str, Any],
    signals: StopSignals,
    screen: Screen,
) -> dict[str, Any]:
    """The accepted task. A signal waits until its id is known: nothing is started and forgotten."""
    with screen.waiting("handing the run over"), signals.held():
        task: dict[str, Any] = client.call(
            "POST", f"{TASKS}/background", body=body | {"strategy": strategy}
        )
    return task


def submit_file(
    client: ServiceClient,
    strategy: str,
    body: dict[str, Any],
    path: Path,
    signals: StopSignals,
    screen: Screen,
) -> dict[str, Any]:
    """As `submit`, for the items of a file. A signal breaks the transfer off, and then nothing is
    accepted.
    """
    with opened(path) as file, screen.waiting(f"sending {path.name}") as say:
        task: dict[str, Any] = client.call(
            "POST",
            f"{TASKS}/upload",
            query=upload_query(strategy, body),
            headers={"Prefer": "respond-async", "Content-Type": media_type(path)},
            content=_pieces(file, signals, say),
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
    """A run's body as the query of an upload."""
    query = words(flat(body))
    # An upload has no `auto`: the service's own choice is had by leaving it out.
    return query if strategy == AUTO else query | {"strategy": strategy}


def flat(body: dict[str, Any]) -> dict[str, Any]:
    """With the workload's parameters beside the other fields."""
    rest = {name: value for name, value in body.items() if name != "parameters"}
    return {**rest, **body.get("parameters", {})}


def words(query: dict[str, Any]) -> dict[str, Any]:
    """With true and false as JSON has them, for a query."""
    return {k: json.dumps(v) if isinstance(v, bool) else v for k, v in query.items()}


def read_items(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, for the body of a request; the service checks them. Raises CommandError
    for a file that cannot be read as its ending says.
    """
    kind = media_type(path)
    with opened(path) as file:
        try:
            text = file.read().decode("utf-8-sig")
            if kind == "text/csv":
                return [
                    {name: _number(value) for name, value in row.items()}
                    for row in csv.DictReader(io.StringIO(text, newline=""))
                ]
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, csv.Error) as error:
            raise CommandError(f"--file {path}: {error}") from error


def _number(text: str) -> float | int | str:
    try:
        return int(text)
    except (ValueError, TypeError):
        pass
    try:
        return float(text)
    except (ValueError, TypeError):
        return text  # refused by the model, in its words


def _pieces(file: IO[bytes], signals: StopSignals, say: Say) -> Iterator[bytes]:
    name, total = Path(file.name).name, os.fstat(file.fileno()).st_size
    while piece := file.read(_PIECE_BYTES):
        yield piece
        say(f"sending {name}: {file.tell() / 2**20:,.1f} of {total / 2**20:,.1f} MiB")
    say(f"{name} is sent; waiting until the service has taken it")
    # From here on the service may accept; `submit_file` lets signals through again.
    signals.hold()
