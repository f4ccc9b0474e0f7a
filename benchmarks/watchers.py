"""The latency of /health beside streams of events: `python -m benchmarks.watchers`, or
`python -m benchmarks.report watchers`, which writes it into docs/performance.md.

One process opens a thousand streams as fast as it can and reads them; another one asks /health 50
times a second meanwhile. A minute and a half, on a machine that should do nothing else.
"""

from __future__ import annotations

import json
import resource
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Final

import psutil

from benchmarks.machine import ROOT, load_line, machine_lines
from benchmarks.probing import HealthProbe, Latencies
from benchmarks.service import service
from tests.fixtures.server import Server
from tests.fixtures.waiting import wait_until

STREAMS: Final = 1_000
SECONDS: Final = 20.0
TASKS: Final = (1, 8)
DESCRIPTORS: Final = 2 * STREAMS + 1_000
"""Memory that the service and the watching process need at least."""

WAITS: Final[dict[str, Any]] = {
    "items_count": 100_000,
    "strategy": "sequential",
    "batch_size": 10,
    "db": "simulated",
    "db_delay_ms": 100,
    "cache": "none",
}
"""Waits nearly all the time, and makes progress every second."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The effect of event streams on the service."""

    tasks: int
    opening_seconds: float
    """Seconds from the first connection until every stream had an event."""
    opening: Latencies
    events: float
    """Events a second of all streams together."""
    cpu_percent: float
    """Share of a core that the API process used."""
    watching: Latencies


def main() -> None:
    print("\n".join([*machine_lines(), *section(), load_line("after")]))


def section() -> Iterator[str]:
    """The lines of the report."""
    yield from table([measure(count) for count in TASKS])


def table(found: Sequence[Watched]) -> list[str]:
    """The section of the report, as Markdown."""
    return [
        "## Watchers",
        "",
        f"{STREAMS:,} streams of events are opened at the same time. They watch running background "
        f"tasks that make progress every second, for {SECONDS:.0f} s after the opening.",
        "",
        "| running tasks | all streams have an event after, s | `/health` while they open, "
        "p50 / p99 ms | events a second | API process, % of a core | `/health` afterwards, "
        "p50 / p99 ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {one.tasks} | {one.opening_seconds:.1f} | {_text(one.opening)} | {one.events:,.0f} "
            f"| {one.cpu_percent:.0f} | {_text(one.watching)} |"
            for one in found
        ),
    ]


def _text(found: Latencies) -> str:
    return f"{found.p50:.1f} / {found.p99:.1f}"


def measure(tasks: int) -> Watched:
    """Measure the streams of this many running tasks."""
    allow_descriptors()
    with service(run_hosts=tasks, background_runs=tasks) as (server, _):
        server.wait_ready()
        ids = [server.submit(**WAITS) for _ in range(tasks)]
        for task_id in ids:
            wait_until(lambda i=task_id: _makes_progress(server, i), "it runs", bound=120)  # type: ignore[misc]
        time.sleep(2)  # what the start has left to do
        process = psutil.Process(server.process.pid)
        command = [sys.executable, "-m", "benchmarks.watchers", str(server.port), *ids]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            try:
                with HealthProbe(server.port) as probe:
                    opening = _next(watching.stdout)["seconds"]
                during = probe.latencies()
                cpu_before = sum(process.cpu_times()[:2])
                with HealthProbe(server.port) as probe:
                    events = _next(watching.stdout)["events"]
                cpu = sum(process.cpu_times()[:2]) - cpu_before
            finally:
                watching.kill()
        return Watched(
            tasks, opening, during, events / SECONDS, 100 * cpu / SECONDS, probe.latencies()
        )


def _makes_progress(server: Server, task_id: str) -> bool:
    task = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
    return bool(task["status"] == "running" and task["items_processed"])


def _next(lines: IO[str]) -> dict[str, float]:
    found: dict[str, float] = json.loads(lines.readline())
    return found


def allow_descriptors() -> None:
    """Raise this process's limit, which the processes that it starts have as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < DESCRIPTORS:
        sys.exit(f"{STREAMS} streams need {DESCRIPTORS} descriptors; the limit here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))


def watch(port: int, tasks: Sequence[str]) -> None:
    """Open the streams and read them. Says after how many seconds all have had an event; and after
    SECONDS more, how many events came in these.
    """
    ready = selectors.DefaultSelector()
    started, begun, events = time.perf_counter(), set[object](), 0
    for number in range(STREAMS):
        connection = socket.socket()
        connection.setblocking(False)
        with suppress(BlockingIOError):
            connection.connect(("127.0.0.1", port))
        ready.register(connection, selectors.EVENT_WRITE, tasks[number % len(tasks)])
    until: float | None = None
    while until is None or time.perf_counter() < until:
        for key, is_writable in ready.select(0.1):
            stream = key.fileobj
            assert isinstance(stream, socket.socket)
            if is_writable & selectors.EVENT_WRITE:
                path = f"/api/v1/tasks/events/{key.data}"
                stream.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                ready.modify(stream, selectors.EVENT_READ)
                continue
            piece = stream.recv(65_536)
            if not piece:
                raise RuntimeError("the service has ended a stream")
            if count := piece.count(b"\ndata: "):
                begun.add(stream)
                events += count
        if until is None and len(begun) == STREAMS:
            print(json.dumps({"seconds": time.perf_counter() - started}), flush=True)
            until, events = time.perf_counter() + SECONDS, 0
    print(json.dumps({"events": events}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        watch(int(sys.argv[1]), sys.argv[2:])
    else:
        main()
