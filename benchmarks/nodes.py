"""One node and two, each with a core of its own, on one large task in PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from benchmarks.background import ended, submit
from benchmarks.service import service
from tests.fixtures.postgres_server import running_postgres
from tests.fixtures.server import ROOT, Server, plain_environment
from tests.fixtures.waiting import wait_until

COUNT: Final = 2_000_000

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
        settings = {"DATABASE_URL": url, "DATA_DIR": folder, "NODE_ID": name, "RUN_HOSTS": "1"}
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, str(ROOT / "main.py"), "node"],
                env=plain_environment() | {f"HOTLOOP_{k}": v for k, v in settings.items()},
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
    seconds: dict[int, float] = {}
    checksums = set()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with running_postgres() as postgres:
        for count in (2, 1):
            with (
                postgres.database() as url,
                service(database_url=url, background_runs=0) as (server, _),
                ExitStack() as nodes,
            ):
                for number in range(count):
                    nodes.enter_context(node(url, f"n{number}", cpus[number]))
                _warm_up(server, count)
                task = ended(server, submit(server, BODY))
                seconds[count] = task["result"]["duration_seconds"]
                checksums.add(task["result"]["checksum"])
                print(f"  nodes: {count} took {seconds[count]:.1f} s", flush=True)
    yield f"""## Nodes

{COUNT:,} items, default work, `threading` × `cython` with one worker, in shards of 250,000;
each node pinned to a core of its own, which it shares with PostgreSQL and the API process: this
machine has no third. Checksums {"equal" if len(checksums) == 1 else "DIFFERENT"}.

| nodes | seconds | items/s | × one |
| ---: | ---: | ---: | ---: |
| 1 | {seconds[1]:.1f} | {COUNT / seconds[1]:,.0f} | 1.00 |
| 2 | {seconds[2]:.1f} | {COUNT / seconds[2]:,.0f} | {seconds[1] / seconds[2]:.2f} |
"""


def _warm_up(server: Server, count: int) -> None:
    """Until every node has done some work."""
    seen: set[str] = set()

    def all_seen() -> bool:
        small = BODY | {"items_count": 300_000, "parameters": {"cpu_iterations": 2_000}}
        task_id = submit(server, small)

        def look() -> bool:
            task = server.client.get(f"/api/v1/tasks/status/{task_id}").json()
            seen.update((task["node"] or "").split(", "))
            return task["end_time"] is not None

        wait_until(look, "the small task ends", bound=120, interval=0.05)
        return len(seen - {""}) >= count

    wait_until(all_seen, f"{count} nodes work", bound=300)
