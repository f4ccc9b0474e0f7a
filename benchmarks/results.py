"""The pace of results over HTTP, in every format that the service offers."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from benchmarks.probing import HealthProbe, Latencies
from benchmarks.service import finished, service
from hotloop.app.comparison.intervals import interval
from tests.fixtures.server import Server

ROWS: Final = 5_000_000
ROUNDS: Final = 3
PIECE_BYTES: Final = 1 << 20
LIGHT: Final = {"cpu_iterations": 20, "outer_iterations": 1, "inner_iterations": 20}
ONE_LINE_EACH: Final = {"ndjson": 0, "csv": 1}
"""Text formats, and the lines they have beside those of the rows."""


@dataclass(slots=True)
class Export:
    """A format; `seconds` count from the request to the last byte, `first` to the first."""

    name: str
    bytes: int = 0
    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    health: list[Latencies] = field(default_factory=list)


def offered(server: Server) -> list[str]:
    """The values of `?format=`, as the service describes itself."""
    api = server.client.get("/openapi.json").json()
    operation = api["paths"]["/api/v1/tasks/results/{task_id}"]["get"]
    (parameter,) = (p for p in operation["parameters"] if p["name"] == "format")
    return choices(parameter["schema"], api["components"]["schemas"])


def choices(schema: dict[str, object], schemas: dict[str, dict[str, object]]) -> list[str]:
    """The values of an enumeration, wherever a JSON schema has it."""
    if "enum" in schema:
        return [str(value) for value in schema["enum"]]  # type: ignore[attr-defined]
    if "$ref" in schema:
        return choices(schemas[str(schema["$ref"]).rpartition("/")[2]], schemas)
    several: list[dict[str, object]] = schema.get("anyOf", [])  # type: ignore[assignment]
    return [value for choice in several for value in choices(choice, schemas)]


def measure() -> list[Export]:
    """Interleaved rounds, after an untimed one that counts the lines."""
    with service() as (server, _):
        result = finished(
            server,
            "threading",
            items_count=ROWS,
            workers=2,
            kernel="cython",
            db="none",
            cache="none",
            parameters=LIGHT,
        )
        print(f"  {ROWS:,} rows are there", flush=True)
        path = f"/api/v1/tasks/results/{result['task_id']}?format="
        exports = [Export(name) for name in offered(server)]
        for number in range(-1, ROUNDS):
            for export in exports:
                if number < 0:
                    lines, export.bytes = _count(server, path + export.name)
                    if export.name in ONE_LINE_EACH:
                        _check(lines, ROWS + ONE_LINE_EACH[export.name], export.name)
                else:
                    _measure(server, path + export.name, export)
    return exports


def _check(lines: int, expected: int, name: str) -> None:
    if lines != expected:
        raise RuntimeError(f"{name} has {lines:,} lines where {expected:,} are expected")


def _count(server: Server, path: str) -> tuple[int, int]:
    lines = size = 0
    for piece in _pieces(server, path):
        lines += piece.count(b"\n")
        size += len(piece)
    return lines, size


def _measure(server: Server, path: str, export: Export) -> None:
    with HealthProbe(server.port) as probe:
        started, size, first = time.perf_counter(), 0, 0.0
        for piece in _pieces(server, path):
            first = first or time.perf_counter() - started
            size += len(piece)
        export.seconds.append(time.perf_counter() - started)
    if size != export.bytes:
        raise RuntimeError(f"{export.name} has {size:,} bytes, and had {export.bytes:,} before")
    export.first.append(first)
    export.health.append(probe.latencies())
    print(f"  {export.name}: {ROWS / export.seconds[-1]:,.0f} rows/s", flush=True)


def _pieces(server: Server, path: str) -> Iterator[bytes]:
    """The answer, thrown away as fast as it comes: the client must not be what is measured."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}")
        while piece := response.read1(PIECE_BYTES):
            yield piece
    finally:
        connection.close()


def section() -> Iterator[str]:
    exports = measure()
    yield f"""## Results over HTTP

{ROWS:,} rows of a finished run are streamed over loopback to a client that throws them away, in
{ROUNDS} interleaved rounds after one that counts the rows. `/health` is asked meanwhile.
"""
    yield from table(exports)
    yield ""


def table(exports: list[Export]) -> list[str]:
    """Markdown."""
    lines = [
        "| format | rows / s (95 % interval) | MB / s | bytes a row | first bytes ms | "
        "`/health` ms p99 / most |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for export in exports:
        rate = interval([ROWS / seconds for seconds in export.seconds])
        width = export.bytes / ROWS
        lines.append(
            f"| {export.name} | {rate.text(0)} | {rate.median * width / 1e6:,.0f} | {width:.1f} | "
            f"{1_000 * interval(export.first).median:.0f} | "
            f"{max(h.p99 for h in export.health):.1f} / {max(h.max for h in export.health):.1f} |"
        )
    return lines
