"""A round: tasks run, something fails, and the results must be as without the failure."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import httpx

from hotloop.app.names import TaskStatus
from tests.chaos.attacks import ADOPTED, LASTING, Attack, supervise
from tests.chaos.cluster import PATIENCE_SECONDS, Cluster, Member
from tests.chaos.judging import UNENDED, Outcome, count_recomputed, judge, stored_batches, views_of
from tests.chaos.kinds import UNHEALTHY, Event, Kind
from tests.chaos.tasks_of_round import IDS_OF_ROUND, ITEMS, Asked, healthy, unhealthy
from tests.fixtures.waiting import wait_until

MOST_DEATHS: Final = 24
"""The most nodes that an unhealthy task may kill before it ends."""
BOUND_SECONDS: Final = 420.0
"""The longest that an unhealthy task may take to end."""


class Round:
    """`number` is unique among the rounds on a cluster; item ids contain it. The last two of
    `tasks` tasks are submitted during the failure.
    """

    def __init__(self, cluster: Cluster, number: int, seed: int, tasks: int = 4) -> None:
        self._tasks = tasks
        self._cluster = cluster
        self._number = number
        self._random = random.Random(f"{seed} {number}")
        self._asked: dict[int, Asked] = {}
        """The healthy tasks by index."""
        self._ids: dict[int, str] = {}
        self._stored: set[int] = set()
        self._noted_ns = 0

    def run(self, event: Event) -> Outcome:
        """Run the round. Raises AssertionError only if the service does not come back."""
        outcome = Outcome(event.kind)
        attack = Attack(self._cluster, event, self._random)
        attack.prepare()
        for index in range(self._tasks - 2):
            self._submit(index, event.kind)
        more = threading.Thread(target=self._submit_more, args=(event.kind,))
        if event.kind in UNHEALTHY:
            more.start()
            self._note_stored()
            self._suffer(event.kind, outcome)
        else:
            victim = self._wait_for_victim(event.kind, attack)
            more.start()
            self._cluster.look()
            self._strike(event.kind, attack, victim, outcome)
        more.join()
        judge(self._cluster, self._asked, self._ids, outcome)
        ids = range(self._number * IDS_OF_ROUND, (self._number + 1) * IDS_OF_ROUND)
        count_recomputed(self._cluster, ids, self._stored, self._noted_ns, outcome)
        outcome.kills += attack.kills
        outcome.left_over = attack.left_over()
        self._cluster.look()
        attack.tidy()
        return outcome

    def _strike(self, kind: Kind, attack: Attack, victim: Member, outcome: Outcome) -> None:
        at = time.monotonic()
        if kind in (Kind.DATABASE, *LASTING):
            self._note_stored()
            attack.strike(victim)
        else:
            attack.strike(victim)
            self._note_stored()
        if kind in ADOPTED:
            what = "the work of what died is put back"
            wait_until(lambda: self._cluster.is_adopted(victim), what, PATIENCE_SECONDS, 0.02)
            outcome.adoption_seconds.append(time.monotonic() - at)
        attack.recover(victim)

    def _suffer(self, kind: Kind, outcome: Outcome) -> None:
        """Submit a task that kills its process each time, and keep the cluster up until it ends."""
        cluster, armed = self._cluster, Path(f"{self._cluster.log}.armed")
        armed.touch()
        ids: dict[int, str] = {}
        asking = threading.Thread(
            target=lambda: ids.update(
                {0: self._accepted(unhealthy(kind, self._number), "unhealthy")}
            )
        )
        asking.start()

        def has_ended() -> bool:
            (view, *_) = [*views_of(cluster, ids).values(), {"status": "pending"}]
            return view["status"] not in UNENDED

        outcome.kills += supervise(cluster, has_ended, MOST_DEATHS, BOUND_SECONDS)
        armed.unlink()
        cluster.wait_up({*cluster.revive(), cluster.api, cluster.node})
        asking.join()
        (view,) = views_of(cluster, ids).values()
        outcome.kills += (view["attempts"] or 0) if kind is Kind.TAKES_HOST else 0
        if view["status"] != "failed" or not view["error_message"]:
            outcome.unbounded += 1
            print(f"    not bounded after {view['attempts']} beginnings: {view['status']}")
            cluster.client.delete(f"/api/v1/tasks/{view['task_id']}")
            wait_until(has_ended, "the unhealthy task is cancelled", PATIENCE_SECONDS, 0.05)

    def _submit(self, index: int, kind: Kind) -> None:
        """Submit a task, as a client would, with one key until it is accepted."""
        self._asked[index] = healthy(kind, self._number, index)
        self._ids[index] = self._accepted(self._asked[index], str(index))

    def _accepted(self, task: Asked, name: str) -> str:
        """Send the task until it is accepted; returns its id."""
        found: list[str] = []

        def accepted() -> bool:
            with suppress(httpx.TransportError):
                answer = task.send(
                    str(self._cluster.client.base_url), f"chaos-{self._number}-{name}"
                )
                if answer.status_code == 202:
                    found.append(answer.json()["task_id"])
                    return True
                assert answer.status_code in (409, 500, 503), answer.text
            return False

        wait_until(accepted, f"task {name} is accepted", PATIENCE_SECONDS, 0.05)
        self._cluster.accepted.update(found)
        return found[0]

    def _submit_more(self, kind: Kind) -> None:
        for index in range(self._tasks - 2, self._tasks):
            self._submit(index, kind)

    def _wait_for_victim(self, kind: Kind, attack: Attack) -> Member:
        """Wait for a member of the right kind that executes a shard with some progress."""
        cluster, found = self._cluster, list[Member]()
        least = self._random.randrange(ITEMS // 2)

        def progress() -> bool:
            for task_id in self._ids.values():
                for shard in cluster.store.shards.of_task(task_id):
                    member = cluster.member(shard)
                    if member is None or shard.status is not TaskStatus.RUNNING:
                        continue
                    if shard.items_processed >= least and attack.fits(member):
                        found.append(member)
            return bool(found)

        def may_be_killed() -> bool:
            if progress():
                return True
            if self._submitted_have_ended():  # elsewhere, or before anybody looked
                next_index = max(self._tasks, *self._asked) + 1
                for index in (next_index, next_index + 1):
                    self._submit(index, kind)
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

    def _note_stored(self) -> None:
        self._stored = stored_batches(self._cluster, self._asked, dict(self._ids))
        self._noted_ns = time.monotonic_ns()
