"""The outcome of a round: what must be as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
from sqlalchemy import func, select

from hotloop.app.database.engine import reading
from hotloop.app.tasks.tables import inputs, results, shards, tasks
from tests.chaos.cluster import PATIENCE_SECONDS, Cluster
from tests.chaos.kinds import Kind
from tests.chaos.source import computed
from tests.chaos.tasks_of_round import Asked
from tests.fixtures.waiting import wait_until


@dataclass
class Outcome:
    """Counts of one round."""

    kind: Kind
    kills: int = 0
    """Processes that were killed by this test, besides those below them."""
    tasks: int = 0
    """Healthy ones that were accepted."""
    failed: int = 0
    """Healthy tasks that did not end as completed."""
    lost: int = 0
    """Tasks that did not end, or are not known any more."""
    wrong_checksums: int = 0
    wrong_chunks: int = 0
    """Tasks with items that are stored twice, or not at all."""
    finished_recomputed: int = 0
    """Batches that were stored at the kill, and computed again after it."""
    unfinished_recomputed: int = 0
    """Batches that were computed more than once, and were not stored at the kill."""
    unbounded: int = 0
    """Unhealthy tasks that did not end as failed, with the reason, after a few beginnings."""
    left_over: int = 0
    """Processes below a killed one that lived on for more than 5 seconds."""
    adoption_seconds: list[float] = field(default_factory=list)
    """Seconds from the kill until the work of the dead process is back in the queue."""

    @property
    def is_good(self) -> bool:
        return not any(
            (
                self.failed,
                self.lost,
                self.wrong_checksums,
                self.wrong_chunks,
                self.finished_recomputed,
                self.unbounded,
                self.left_over,
            )
        )


SWEPT_SECONDS: Final = 45.0
"""Each process looks for files without a task within this time."""

UNENDED: Final = ("pending", "running")


def views_of(cluster: Cluster, ids: Mapping[int, str]) -> dict[int, dict[str, Any]]:
    """The tasks as the API shows them, as far as it answers."""
    views = {}
    with suppress(httpx.TransportError):
        for index, task_id in ids.items():
            answer = cluster.client.get(f"/api/v1/tasks/status/{task_id}")
            if answer.status_code == 200:
                views[index] = answer.json()
    return views


def judge(
    cluster: Cluster, asked: Mapping[int, Asked], ids: Mapping[int, str], outcome: Outcome
) -> None:
    """Wait until all have ended, and count what is not as it must be."""
    outcome.tasks = len(asked)
    views: dict[int, dict[str, Any]] = {}

    def all_ended() -> bool:
        views.update(views_of(cluster, ids))
        states = [view["status"] for view in views.values()]
        return len(states) == len(asked) and not set(UNENDED) & set(states)

    with suppress(AssertionError):  # those that have not ended are lost
        wait_until(all_ended, "all tasks have ended", PATIENCE_SECONDS, 0.05)
    for index, task in asked.items():
        view = views.get(index, {"status": "unknown"})
        if view["status"] == "completed":
            outcome.wrong_checksums += view["result"]["checksum"] != task.checksum
            outcome.wrong_chunks += not _is_stored_once(cluster, view["task_id"], task.items)
            continue
        if view["status"] in (*UNENDED, "unknown"):
            outcome.lost += 1
        else:
            outcome.failed += 1
        text = {name: view.get(name) for name in ("task_id", "status", "attempts", "error_message")}
        print(f"    {task.strategy} {task.kernel}: {text}", flush=True)


def stored_batches(
    cluster: Cluster, asked: Mapping[int, Asked], ids: Mapping[int, str]
) -> set[int]:
    """The first ids of the batches whose results are in the store now."""
    index_of = {task_id: index for index, task_id in ids.items()}
    wanted = select(results.c.task_id, results.c.start, results.c["count"]).where(
        results.c.task_id.in_(list(index_of))
    )
    stored = set()
    with reading(cluster.store.engine) as connection:
        for task_id, start, count in connection.execute(wanted):
            stored |= asked[index_of[task_id]].batches(start, count)
    return stored


def count_recomputed(
    cluster: Cluster, ids: range, stored: set[int], since_ns: int, outcome: Outcome
) -> None:
    """Count batches of items with these ids: `stored` ones that were computed after `since_ns`, and
    others that were computed more than once.
    """
    batches = [batch for batch in computed(cluster.log) if batch.first_id in ids]
    again = [b for b in batches if b.at_ns > since_ns and b.first_id in stored]
    outcome.finished_recomputed = len(again)
    times = Counter(batch.first_id for batch in batches)
    outcome.unfinished_recomputed = sum(times.values()) - len(times) - len(again)


def unknown_tasks(cluster: Cluster) -> set[str]:
    """Accepted tasks that the store does not contain."""
    with reading(cluster.store.engine) as connection:
        return cluster.accepted - set(connection.scalars(select(tasks.c.task_id)))


def left_after_removal(cluster: Cluster) -> list[str]:
    """Remove all (ended) tasks; returns descriptions of everything that is left of them."""
    answer = cluster.client.delete("/api/v1/tasks/results")
    assert answer.status_code == 200, answer.text

    def files() -> list[str]:
        return [
            str(path.relative_to(cluster.folder)) for path in cluster.folder.glob("data*/uploads/*")
        ]

    with suppress(AssertionError):
        wait_until(lambda: not files(), "no file is left", SWEPT_SECONDS, 0.1)
    left = [f"file {name}" for name in files()]
    with reading(cluster.store.engine) as connection:
        for table in (tasks, shards, results, inputs):
            count = connection.scalar(select(func.count()).select_from(table)) or 0
            if count:
                left.append(f"{count} rows of {table.name}")
    return left


def _is_stored_once(cluster: Cluster, task_id: str, items: int) -> bool:
    chunks = select(results.c.start, results.c["count"]).where(results.c.task_id == task_id)
    position = 0
    with reading(cluster.store.engine) as connection:
        for start, count in connection.execute(chunks.order_by(results.c.start)):
            if start != position:
                return False
            position = start + count
    return position == items
