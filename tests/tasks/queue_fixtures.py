"""Queues in this process and in others, to test with."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks.claims import Claim
from hotloop.app.tasks.model import ShardRef, Task, new_task_id, utc_now
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.small import SmallClaims
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.stuck import StuckShards
from hotloop.app.tasks.work_queue import HandOver, QueueOptions, WorkQueue
from tests.fixtures.executions import summary
from tests.fixtures.guarded import GuardedProcess
from tests.fixtures.waiting import wait_until

POLLING_SECONDS = 0.02


def put(store: TaskStore, number: int = 1, shards: int = 1) -> list[ShardRef]:
    """Accept `number` background tasks of `shards` shards of one item; return the shards."""
    made: list[ShardRef] = []
    for _ in range(number):
        task = Task(
            task_id=new_task_id(),
            task_type=TaskType.BACKGROUND,
            spec={},
            workload="loops",
            kernel="numba",
            strategy="hybrid",
            total_items=shards,
            created_at=utc_now(),
            owner="1:1.0",
        )
        made += [shard.ref for shard in store.create(task, [1] * shards)]
    return made


class Work:
    """Work in this process. Without `go` it does not end; `stopping` hands it over."""

    def __init__(self, store: TaskStore) -> None:
        self.began: list[ShardRef] = []
        self.ended: list[ShardRef] = []
        self.go = threading.Event()
        self.go.set()
        self.stopping = threading.Event()
        self.error: BaseException | None = None
        self._store = store

    def __call__(self, claimed: Claim | SmallClaims) -> None:
        assert isinstance(claimed, Claim)
        shard = claimed.shard
        self.began.append(shard.ref)
        while not self.go.wait(0.005):
            if self.stopping.is_set():
                raise HandOver
        if self.error is not None:
            raise self.error
        with suppress(TaskConflictError):  # cancelled, or another's by now
            known: tuple[Any, ...] = (TaskStatus.COMPLETED, {}, 0, summary)
            self._store.shards.end(shard.ref, shard.attempt, *known)
            self.ended.append(shard.ref)


class Queues:
    """Makes queues on one store, and closes what is up at the end."""

    def __init__(self, store: TaskStore) -> None:
        self.store = store
        self._made: list[tuple[WorkQueue, Work]] = []

    def launch(
        self,
        work: Work,
        node: str = "here:1",
        can_execute: Callable[[], bool] = lambda: True,
        *,
        abilities: Abilities | None = None,
        stuck: StuckShards | None = None,
        **options: Any,
    ) -> WorkQueue:
        fields = {"concurrency": 2, "polling_seconds": POLLING_SECONDS, **options}
        queue = WorkQueue(self.store.engine, node, work, QueueOptions(**fields), can_execute, stuck)
        queue.launch(abilities)
        self._made.append((queue, work))
        return queue

    def close(self) -> None:
        for queue, work in self._made:
            queue.take_no_more()
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
        """Return the words after `what` in the lines of a node, or of all nodes."""
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
