"""One round: tasks are asked for, something dies, and everything must come out as if it had not."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import httpx
from sqlalchemy import select

from app.names import TaskStatus
from app.tasks.engine import reading
from app.tasks.tables import results
from tests.chaos.cluster import PATIENCE_SECONDS, Cluster, Member
from tests.chaos.source import computed
from tests.fixtures.waiting import wait_until

BATCH_ITEMS: Final = 5
ITEMS: Final = 400
STRATEGIES: Final = (
    "async-batch",
    "concurrent-futures",
    "hybrid",
    "multiprocessing",
    "sequential",
    "threading",
)
WITH_WORKERS: Final = ("concurrent-futures", "multiprocessing")


class Kind(StrEnum):
    """What dies in a round."""

    API = "API process"
    HOST = "run host"
    WORKER = "pool worker"
    NODE = "node"
    FREEZE = "node frozen and back"
    CUT = "node cut off and back"
    DATABASE = "PostgreSQL"


ONLY_POSTGRESQL: Final = (Kind.CUT, Kind.DATABASE)
"""There is no way to a file that could be cut, and nobody who serves it."""


@dataclass
class Outcome:
    """What a round has shown."""

    kind: Kind
    tasks: int = 0
    lost: int = 0
    wrong_checksums: int = 0
    wrong_chunks: int = 0
    """Tasks with items that are stored twice, or not at all."""
    finished_recomputed: int = 0
    """Batches that were stored at the kill, and computed again after it."""
    unfinished_recomputed: int = 0
    """Batches that were computed more than once, and were not stored at the kill."""
    adoption_seconds: list[float] = field(default_factory=list)
    """From the kill until what the dead process had begun was back in the queue."""

    @property
    def is_good(self) -> bool:
        faults = self.lost, self.wrong_checksums, self.wrong_chunks, self.finished_recomputed
        return not any(faults)


class Round:
    """`number` is another one for each round over the same cluster: items are named by it. Of
    `tasks` tasks the last two are asked for while the kill happens.
    """

    def __init__(self, cluster: Cluster, number: int, seed: int, tasks: int = 5) -> None:
        self._tasks = tasks
        self._expected: list[str] = []
        """Checksums, by index."""
        self._cluster = cluster
        self._number = number
        self._random = random.Random(f"{seed} {number}")
        self._ids: dict[int, str] = {}
        self._stored: set[int] = set()
        self._killed_ns = 0

    def run(self, kind: Kind) -> Outcome:
        """Raises AssertionError only when the service itself does not come back."""
        for index in range(self._tasks):
            self._expected.append(self._undisturbed(index))
        for index in range(self._tasks - 2):
            self._submit(index, kind)
        more = threading.Thread(target=self._submit_more, args=(kind,))
        victim = self._wait_for_victim(kind)
        more.start()
        self._cluster.look()
        strike = time.monotonic()
        outcome = Outcome(kind)
        self._strike(kind, victim)
        if kind is not Kind.DATABASE:
            self._note_stored()
        if kind in (Kind.API, Kind.NODE, Kind.FREEZE, Kind.CUT):
            outcome.adoption_seconds = self._adoption(victim, strike)
        self._recover(kind, victim)
        more.join()
        self._judge(outcome)
        self._cluster.look()
        return outcome

    def _items(self, index: int) -> list[dict[str, Any]]:
        base = (self._number * 100 + index) * 1_000_000
        return [{"item_id": base + i, "value": i / 7, "offset": i} for i in range(ITEMS)]

    def _body(self, index: int, kind: Kind | None) -> dict[str, Any]:
        names = WITH_WORKERS if kind is Kind.WORKER else STRATEGIES
        return {
            "items": self._items(index),
            "strategy": names[(self._number + index) % len(names)],
            "kernel": "python",
            "workers": 2,
            "batch_size": BATCH_ITEMS,
            "db": "counted",
            "parameters": {"cpu_iterations": 50, "outer_iterations": 5, "inner_iterations": 7},
        }

    def _undisturbed(self, index: int) -> str:
        body = self._body(index, None) | {"db": "none"}
        del body["strategy"]
        answer = self._cluster.client.post("/api/v1/tasks/sequential", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["checksum"])

    def _submit(self, index: int, kind: Kind) -> None:
        """Until it is accepted; asked for again under the same key, as a client would."""
        headers = {"Idempotency-Key": f"chaos-{self._number}-{index}"}
        body = self._body(index, kind)

        def accepted() -> bool:
            with suppress(httpx.TransportError):
                answer = httpx.post(
                    f"{self._cluster.client.base_url}/api/v1/tasks/background",
                    json=body,
                    headers=headers,
                    timeout=20,
                )
                if answer.status_code == 202:
                    self._ids[index] = answer.json()["task_id"]
                    return True
                assert answer.status_code in (409, 500, 503), answer.text
            return False

        wait_until(accepted, f"task {index} is accepted", PATIENCE_SECONDS, 0.05)

    def _submit_more(self, kind: Kind) -> None:
        for index in range(self._tasks - 2, self._tasks):
            self._submit(index, kind)

    def _wait_for_victim(self, kind: Kind) -> Member:
        """Who executes a shard with some progress, and is of the kind that is to die."""
        cluster, found = self._cluster, list[Member]()
        least = self._random.randrange(ITEMS // 2)

        def progress() -> bool:
            for task_id in self._ids.values():
                for shard in cluster.store.shards.of_task(task_id):
                    member = cluster.member(shard)
                    if member is None or shard.status is not TaskStatus.RUNNING:
                        continue
                    if shard.items_processed < least or not _fits(kind, cluster, member):
                        continue
                    found.append(member)
            return bool(found)

        def may_be_killed() -> bool:
            if progress():
                return True
            if self._submitted_have_ended():  # elsewhere, or before anybody looked
                self._expected.append(self._undisturbed(len(self._expected)))
                self._submit(len(self._expected) - 1, kind)
            return False

        try:
            wait_until(may_be_killed, "something runs where it can be killed", PATIENCE_SECONDS)
        except AssertionError as error:
            shards = [
                shard for i in self._ids.values() for shard in cluster.store.shards.of_task(i)
            ]
            raise AssertionError(f"{error}; {shards}") from None
        return self._random.choice(found)

    def _submitted_have_ended(self) -> bool:
        states = {self._cluster.store.status(task_id) for task_id in self._ids.values()}
        return not states & {TaskStatus.PENDING, TaskStatus.RUNNING}

    def _strike(self, kind: Kind, victim: Member) -> None:
        if kind is Kind.DATABASE:
            assert self._cluster.database is not None
            self._note_stored()
            self._cluster.database.crash()
        elif kind is Kind.FREEZE:
            victim.process.send_signal(signal.SIGSTOP)
        elif kind is Kind.CUT:
            assert self._cluster.database is not None
            self._cluster.database.link.cut()
        elif kind in (Kind.HOST, Kind.WORKER):
            those = victim.run_hosts() if kind is Kind.HOST else victim.workers()
            if those:
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(those).pid, signal.SIGKILL)
        else:
            victim.process.send_signal(signal.SIGKILL)

    def _recover(self, kind: Kind, victim: Member) -> None:
        cluster = self._cluster
        if kind is Kind.API:
            victim.process.kill()
            cluster.api = cluster.start("api")
            wait_until(cluster.is_ready, "the API is back", PATIENCE_SECONDS, 0.05)
        elif kind is Kind.NODE:
            victim.process.kill()
            cluster.node = cluster.start("node")
            cluster.wait_listed(cluster.node)
        elif kind is Kind.FREEZE:
            victim.process.send_signal(signal.SIGCONT)
            cluster.wait_listed(victim)
        elif kind is Kind.CUT:
            assert cluster.database is not None
            cluster.database.link.mend()
            cluster.wait_listed(victim)
        elif kind is Kind.DATABASE:
            assert cluster.database is not None
            cluster.database.restart()

    def _adoption(self, victim: Member, since: float) -> list[float]:
        what = "the work of what died is put back"
        wait_until(lambda: self._cluster.is_adopted(victim), what, PATIENCE_SECONDS, 0.02)
        return [time.monotonic() - since]

    def _note_stored(self) -> None:
        """The first ids of the batches whose results are in the store now."""
        wanted = select(results.c.task_id, results.c.start, results.c["count"]).where(
            results.c.task_id.in_(list(self._ids.values()))
        )
        index_of = {task_id: index for index, task_id in self._ids.items()}
        with reading(self._cluster.store.engine) as connection:
            for row in connection.execute(wanted):
                task_id, start, count = row
                base = (self._number * 100 + index_of[task_id]) * 1_000_000
                self._stored |= {base + i for i in range(start, start + count, BATCH_ITEMS)}
        self._killed_ns = time.monotonic_ns()

    def _judge(self, outcome: Outcome) -> None:
        expected = self._expected
        outcome.tasks = len(expected)
        client = self._cluster.client
        views: dict[int, dict[str, Any]] = {}

        def all_ended() -> bool:
            with suppress(httpx.TransportError):
                for index, task_id in self._ids.items():
                    answer = client.get(f"/api/v1/tasks/status/{task_id}")
                    if answer.status_code == 200:
                        views[index] = answer.json()
            states = [view["status"] for view in views.values()]
            return len(states) == len(expected) and not {"pending", "running"} & set(states)

        with suppress(AssertionError):  # those that have not ended are lost
            wait_until(all_ended, "all tasks have ended", PATIENCE_SECONDS, 0.05)
        for index, checksum in enumerate(expected):
            view = views.get(index, {})
            if view.get("status") != "completed":
                outcome.lost += 1
                print(f"    lost: {view}", flush=True)
                continue
            outcome.wrong_checksums += view["result"]["checksum"] != checksum
            outcome.wrong_chunks += not self._is_stored_once(view["task_id"])
        self._count(outcome)

    def _is_stored_once(self, task_id: str) -> bool:
        chunks = select(results.c.start, results.c["count"]).where(results.c.task_id == task_id)
        position = 0
        with reading(self._cluster.store.engine) as connection:
            for start, count in connection.execute(chunks.order_by(results.c.start)):
                if start != position:
                    return False
                position = start + count
        return position == ITEMS

    def _count(self, outcome: Outcome) -> None:
        low, high = self._number * 100_000_000, (self._number + 1) * 100_000_000
        batches = [b for b in computed(self._cluster.log) if low <= b.first_id < high]
        again = [b for b in batches if b.at_ns > self._killed_ns and b.first_id in self._stored]
        outcome.finished_recomputed = len(again)
        times = Counter(batch.first_id for batch in batches)
        outcome.unfinished_recomputed = sum(times.values()) - len(times) - len(again)


def _fits(kind: Kind, cluster: Cluster, member: Member) -> bool:
    if kind is Kind.API:
        return member is cluster.api
    if kind in (Kind.NODE, Kind.FREEZE, Kind.CUT):
        return member is cluster.node
    return kind is not Kind.WORKER or bool(member.workers())
