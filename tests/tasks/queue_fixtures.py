"""Queues in this process and in others, to test with."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from app.tasks.model import ShardRef
from app.tasks.work_queue import HandOver, QueueOptions, WorkQueue
from tests.fixtures.guarded import GuardedProcess
from tests.fixtures.waiting import wait_until

POLLING_SECONDS = 0.02

_numbers = count()


def refs(number: int) -> list[ShardRef]:
    """So many shards of tasks that nobody has had."""
    return [ShardRef(f"task_{next(_numbers):08x}_1700000000", 0, 1) for _ in range(number)]


class Work:
    """What is done, in this process. `holding` keeps it from ending, `stopping` hands it over."""

    def __init__(self) -> None:
        self.began: list[ShardRef] = []
        self.ended: list[ShardRef] = []
        self.go = threading.Event()
        self.go.set()
        self.stopping = threading.Event()
        self.error: BaseException | None = None

    def __call__(self, ref: ShardRef) -> None:
        self.began.append(ref)
        while not self.go.wait(0.005):
            if self.stopping.is_set():
                raise HandOver
        if self.error is not None:
            raise self.error
        self.ended.append(ref)


NewQueue = Callable[..., WorkQueue]


class Queues:
    """Makes queues on one database, and closes what is up at the end."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._made: list[tuple[WorkQueue, Work]] = []

    def launch(self, work: Work, node: str = "here:1", **options: Any) -> WorkQueue:
        fields = {"concurrency": 2, "polling_seconds": POLLING_SECONDS, **options}
        queue = WorkQueue(self.engine, node, work, QueueOptions(**fields))
        queue.launch()
        self._made.append((queue, work))
        return queue

    def close(self) -> None:
        for queue, work in self._made:
            work.stopping.set()
            queue.close()


class NodeProcesses:
    """Nodes in processes of their own, and what they say."""

    def __init__(self, location: Path | str, folder: Path) -> None:
        self._location = location
        self.folder = folder
        self.processes: dict[str, GuardedProcess] = {}
        self.hold = folder / "hold"

    def start(self, name: str, **options: Any) -> None:
        """A node that is up when this returns."""
        fields = {
            "concurrency": 2,
            "polling_seconds": POLLING_SECONDS,
            "beat_seconds": 0.05,
            "dead_seconds": 3_600,  # the process of a node that is killed is gone at once
            **options,
        }
        words = [str(self._location), name, str(self.folder), json.dumps(fields)]
        self.processes[name] = GuardedProcess(
            [sys.executable, "-m", "tests.tasks.node_process", *words]
        )
        wait_until(lambda: self.said(name, "up"), f"the node {name} is up")

    def stop(self, name: str) -> None:
        """Orderly; returns when the process has ended."""
        (self.folder / f"stop-{name}").touch()
        wait_until(lambda: not self.processes[name].is_alive, f"the node {name} has ended")
        self.processes[name].kill()

    def events(self) -> list[list[str]]:
        """`[name, what, …]` of each, in order."""
        path = self.folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines]

    def said(self, name: str | None, what: str) -> list[str]:
        """What comes after `what` in the lines of a node, or of all."""
        return [
            " ".join(rest)
            for who, said, *rest in self.events()
            if said == what and name in (None, who)
        ]

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
        log = self.folder / "log"
        print(log.read_text() if log.exists() else "", *self.events(), sep="\n")
