"""`python -m tests.clusters.kills ENGINE COUNT`: kills in the middle of background tasks.

It kills every part of a cluster, and of the service, and writes into docs/reliability.md what
became of the tasks.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

from benchmarks.machine import machine_lines
from hotloop.app.strategies.cluster.strategy import PARCEL_SECONDS
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.store import open_store
from tests.chaos.source import LOG_VARIABLE, SOURCES, WAIT_VARIABLE, computed
from tests.fixtures.clusters import Cluster, running
from tests.fixtures.sections import replaced, table
from tests.fixtures.server import QUICK, ROOT, Server, running_server
from tests.fixtures.waiting import wait_until

BATCH_ITEMS: Final = 5
WAIT_SECONDS: Final = 0.02
ITEMS: Final = 4_000
TASK: Final[dict[str, Any]] = QUICK | {
    "items_count": ITEMS,
    "db": "counted",
    "batch_size": BATCH_ITEMS,
    "kernel": "python",
}
"""A task of 800 batches that takes two workers eight seconds; the source logs each batch."""

PARCEL_BATCHES: Final = int(PARCEL_SECONDS / WAIT_SECONDS)
IN_FLIGHT: Final = 4 * PARCEL_BATCHES
"""The most batches in flight: two parcels for each of two workers."""


class Part(StrEnum):
    """A part that is killed."""

    HEAD = "head"
    NODE = "node"
    WORKER = "worker"
    DRIVER = "driver"
    API = "api"


ORDER: Final = (
    *(Part.HEAD, Part.NODE, Part.HEAD, Part.WORKER, Part.API),
    *(Part.HEAD, Part.NODE, Part.HEAD, Part.DRIVER, Part.API),
)
"""The order of kills, over and over; a head is the worst to lose."""


@dataclass(frozen=True, slots=True)
class Round:
    """The outcome of a task in the middle of which a part was killed."""

    part: Part
    completed: bool
    """True if the task completed by itself, with the checksum of `sequential`."""
    told_seconds: float | None
    """Seconds until its status said that it waits for the cluster; None for other parts."""
    again: int
    """Batches that were computed more than once."""
    stored_again: int
    """Batches that were computed again although their results were stored."""


class Harness:
    """A service with a cluster, both of which are started again after a kill."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.cluster = cluster
        self.log = folder / "computed"
        self.data = folder / "data"
        self.data.mkdir()
        self.server: Server
        self._running: Any = None

    def start_server(self) -> None:
        address = {f"{self.cluster.engine}_address": self.cluster.address}
        self._running = running_server(self.data, run_hosts=1, sources=SOURCES, **address)
        self.server = self._running.__enter__()
        self.server.wait_ready()

    def stop_server(self) -> None:
        self._running.__exit__(None, None, None)

    def checksum(self) -> str:
        return str(self.server.run("sequential", **TASK | {"db": "none"}).json()["checksum"])

    def round(self, part: Part, after_items: int) -> Round:
        """Kill a part once so many items are stored, and wait until the task has ended."""
        before = sum(1 for _ in computed(self.log))
        task_id = self.server.submit(**TASK, strategy=self.cluster.engine)
        self.server.wait_progress(task_id, after_items)
        stored, killed = self._stored(task_id), time.monotonic()
        self._kill(part)
        told = self._told(part, task_id, killed)
        self._mend(part)
        wait_until(lambda: self._has_ended(task_id), "it ends", 120, 0.1)
        view = self.server.view(task_id)
        checksum = (view.get("result") or {}).get("checksum")
        times = Counter(batch.first_id for batch in list(computed(self.log))[before:])
        again = {first for first, count in times.items() if count > 1}
        return Round(
            part,
            view["status"] == "completed" and checksum == self.checksum(),
            told,
            len(again),
            len(again & stored),
        )

    def _kill(self, part: Part) -> None:
        if part is Part.HEAD:
            self.cluster.kill_head()
        elif part is Part.NODE:
            self.cluster.kill_node()
        elif part is Part.WORKER:
            psutil.Process(self.cluster.worker_pids()[0]).kill()
        elif part is Part.DRIVER:
            drivers(self.server.process.pid)[0].kill()
        else:
            self.server.process.kill()
            self.stop_server()

    def _told(self, part: Part, task_id: str, killed: float) -> float | None:
        if part is not Part.HEAD:
            return None
        lost = f"a node with the strategy {self.cluster.engine}"
        wait_until(lambda: self.server.view(task_id)["waiting_for"] == lost, "it is told", 30, 0.02)
        return time.monotonic() - killed

    def _mend(self, part: Part) -> None:
        if part is Part.HEAD:
            self.cluster.end()
            self.cluster.start()
        elif part is Part.NODE:
            self.cluster.start_node()
        elif part is Part.API:
            self.start_server()

    def _has_ended(self, task_id: str) -> bool:
        self.cluster.replace_ended_nodes()
        return self.server.view(task_id)["status"] not in ("pending", "running")

    def _stored(self, task_id: str) -> set[int]:
        """The first items of the batches whose results are stored."""
        store = open_store(self.data)
        try:
            missing = store.shards.missing(ShardRef(task_id, 0, 0))
        finally:
            store.close()
        lacking = {n for start, count in missing for n in range(start, start + count)}
        return set(range(0, ITEMS, BATCH_ITEMS)) - lacking


def drivers(pid: int) -> list[psutil.Process]:
    """The drivers below a process."""
    return [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if "hotloop.app.strategies.cluster.driver" in process.cmdline()
    ]


@contextmanager
def harness(engine: str, folder: Path) -> Iterator[Harness]:
    """A cluster and a service that uses it, until the block ends."""
    with running(engine, folder) as cluster:
        made = Harness(folder, cluster)
        variables = {
            **cluster.environment,
            LOG_VARIABLE: str(made.log),
            WAIT_VARIABLE: str(WAIT_SECONDS),
            "PYTHONPATH": str(ROOT),
        }
        os.environ |= variables
        made.start_server()
        try:
            yield made
        finally:
            made.stop_server()


def main() -> None:
    engine, count = sys.argv[1], int(sys.argv[2])
    rng = random.Random(0)
    rounds = []
    with tempfile.TemporaryDirectory() as folder, harness(engine, Path(folder)) as made:
        for number in range(count):
            part = ORDER[number % len(ORDER)]
            found = made.round(part, rng.randrange(1, ITEMS // 2))
            rounds.append(found)
            print(number, found, flush=True)
    page = ROOT / "docs" / "reliability.md"
    writer = f"python -m tests.clusters.kills {engine} {count}"
    text = replaced(page.read_text(), f"kills with a {engine} cluster", writer, lines_of(rounds))
    page.write_text(text)


def lines_of(rounds: list[Round]) -> list[str]:
    """Return the lines of a table, with a row for each part, and what they were measured on."""
    rows = []
    for part in Part:
        mine = [each for each in rounds if each.part is part]
        told = [each.told_seconds for each in mine if each.told_seconds is not None]
        again = [each.again for each in mine]
        rows.append(
            [
                part,
                str(len(mine)),
                str(sum(each.completed for each in mine)),
                f"{median(told):.1f} / {max(told):.1f}" if told else "",
                f"{median(again):g} / {max(again)}",
                str(sum(each.stored_again for each in mine)),
            ]
        )
    head = ["killed", "times", "completed, equal to the bit", "loss told after s, median / most"]
    head += ["batches computed again, median / most", "of them stored before"]
    return [*table(head, rows), "", *machine_lines()]


if __name__ == "__main__":
    main()
