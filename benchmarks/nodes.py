"""A large task in PostgreSQL, executed by one node and by two, each with its own core."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from benchmarks.background import ended
from benchmarks.service import service
from hotloop.app.comparison.intervals import ratios
from tests.fixtures.postgres_server import running_postgres
from tests.fixtures.server import MAIN, Server, plain_environment
from tests.fixtures.waiting import wait_until

COUNT: Final = 2_000_000
ROUNDS: Final = 3
LOOK_SECONDS: Final = 2.0
"""Seconds between two looks at the task; each look takes CPU time that the nodes need."""

BODY: Final[dict[str, Any]] = {
    "items_count": COUNT,
    "batch_size": 5_000,
    "workers": 1,
    "kernel": "cython",
    "strategy": "threading",
    "db": "none",
    "cache": "none",
}


@contextmanager
def node(url: str, name: str, cpu: int) -> Iterator[None]:
    """A node that runs on one CPU."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        process = stack.enter_context(
            subprocess.Popen(
                [*MAIN, "node"],
                env=plain_environment(database_url=url, data_dir=folder, node_id=name, run_hosts=1),
                cwd=folder,
                stderr=subprocess.DEVNULL,
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
            )
        )
        try:
            yield
        finally:
            process.terminate()


def section() -> Iterator[str]:
    """The lines of the report."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    checksums = set()
    with running_postgres() as postgres:
        for number in range(ROUNDS):
            for count in (2, 1) if number % 2 else (1, 2):
                with postgres.database() as url:
                    took, checksum = _run(url, count)
                seconds[count].append(took)
                checksums.add(checksum)
                print(f"  nodes: {count} took {took:.1f} s", flush=True)
    one, two = (statistics.median(seconds[count]) for count in (1, 2))
    are = "equal" if len(checksums) == 1 else "DIFFERENT"
    times = ratios(seconds[1], seconds[2])
    yield f"""## Nodes

{COUNT:,} items, default work, `threading` × `cython` with one worker, in shards of 250,000. Each
node is pinned to a core of its own. PostgreSQL and the API process share these cores, because
this machine has only two. Medians of {ROUNDS} rounds. Checksums {are}.

| nodes | seconds | items/s | × one |
| ---: | ---: | ---: | ---: |
| 1 | {one:.1f} | {COUNT / one:,.0f} | 1.00 |
| 2 | {two:.1f} | {COUNT / two:,.0f} | {times.text(2)} |
"""


def _run(url: str, count: int) -> tuple[float, object]:
    """Run the task on `count` nodes; returns its seconds and its checksum."""
    cpus = sorted(os.sched_getaffinity(0))
    with service(database_url=url, background_runs=0) as (server, _), ExitStack() as nodes:
        for number in range(count):
            nodes.enter_context(node(url, f"n{number}", cpus[number]))
        _warm_up(server, count)
        result = ended(server, server.submit(**BODY), LOOK_SECONDS)["result"]
    return result["duration_seconds"], result["checksum"]


def _warm_up(server: Server, count: int) -> None:
    """Submit small tasks until every node has done some work."""
    seen: set[str] = set()

    def all_seen() -> bool:
        small = BODY | {"items_count": 300_000, "parameters": {"cpu_iterations": 2_000}}
        task_id = server.submit(**small)

        def look() -> bool:
            task = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
            seen.update((task["node"] or "").split(", "))
            return task["end_time"] is not None

        wait_until(look, "the small task ends", bound=120, interval=0.05)
        return len(seen - {""}) >= count

    wait_until(all_seen, f"{count} nodes work", bound=300)
