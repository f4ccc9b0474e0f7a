"""Many tasks at once: all complete, and the API answers meanwhile."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.probing import HealthProbe, Latencies
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

CLIENTS: Final = 8
BOUND_SECONDS: Final = 900.0
ENDED: Final = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Times and memory of the load."""

    tasks: int
    items: int
    completed: int
    accepting_seconds: float
    all_seconds: float
    health: Latencies
    before_bytes: int
    after_bytes: int


def queue_many(folder: Path, tasks: int, items: int) -> LoadFigures:
    """Submit `tasks` tasks of `items` items to a new service, as fast as it accepts them."""
    body: dict[str, Any] = {"items_count": items, "db": "none", "cache": "none"}
    body |= {"kernel": "numba", "strategy": "sequential"}
    with running_server(folder) as server:
        server.submit(**body)
        wait_until(lambda: _count(server, "completed") == 1, "the first is completed")
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        begun = time.monotonic()
        with HealthProbe(server.port) as probe:
            with ThreadPoolExecutor(CLIENTS) as clients:
                list(clients.map(lambda _: server.submit(**body), range(tasks)))
            accepted = time.monotonic()
            wait_until(
                lambda: sum(_count(server, status) for status in ENDED) == tasks + 1,
                "all have ended",
                BOUND_SECONDS,
                0.25,
            )
            ended = time.monotonic()
        return LoadFigures(
            tasks=tasks,
            items=items,
            completed=_count(server, "completed") - 1,
            accepting_seconds=accepted - begun,
            all_seconds=ended - begun,
            health=probe.latencies(),
            before_bytes=before,
            after_bytes=process.memory_info().rss,
        )


def _count(server: Server, status: str) -> int:
    page = server.client.get(f"/api/v1/tasks/results?limit=1&status={status}").json()
    return int(page["total"])
