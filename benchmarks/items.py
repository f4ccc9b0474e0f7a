"""The items that are measured on: real flights, the 1,000 of the example repeated."""

from __future__ import annotations

from pathlib import Path

from benchmarks.machine import ROOT
from hotloop.app.sources.item_file import FileItems
from hotloop.app.sources.rows import CSV, ingest

SAMPLE = ROOT / "examples" / "flights-1000.csv"


def flights_csv(count: int) -> bytes:
    """`count` rows with ids 0 … count - 1."""
    header, *rows = SAMPLE.read_text().splitlines()
    columns = [row.partition(",")[2] for row in rows]
    lines = (f"{number},{columns[number % len(columns)]}" for number in range(count))
    return "\n".join([header, *lines, ""]).encode()


def flights_file(folder: Path, count: int) -> FileItems:
    """Write the flights as an item file, for programs that are measured without the service."""
    upload, items = folder / "flights.csv", folder / "flights.npy"
    upload.write_bytes(flights_csv(count))
    ingest(upload, CSV, items, "loops", count)
    return FileItems(str(items), count)
