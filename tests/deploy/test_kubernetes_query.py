"""KEDA's query counts what keeps nodes busy, in the tables of a real store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from hotloop.app.names import TaskStatus
from hotloop.app.tasks.claims import Claim, claim
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.small import MOST_CLAIMED, SmallTasks
from hotloop.app.tasks.store import TaskStore, open_store
from tests.deploy.manifests import keda_query
from tests.fixtures.executions import summary
from tests.fixtures.postgres_server import running_postgres
from tests.tasks.conftest import new_task as new_task
from tests.tasks.queue_fixtures import put
from tests.tasks.test_small import fits, new


@pytest.fixture
def store() -> Iterator[TaskStore]:
    with running_postgres() as server, server.database() as url:
        opened = open_store(url)
        yield opened
        opened.close()


def test_query_counts_shards_that_wait_and_shards_in_work(
    store: TaskStore, new_task: Callable[..., Task]
) -> None:
    def count() -> float:
        with store.engine.connect() as connection:
            return float(connection.scalar(text(keda_query())))

    def end(claimed: Claim) -> None:
        known: tuple[Any, ...] = (TaskStatus.COMPLETED, {}, 0, summary)
        store.shards.end(claimed.shard.ref, claimed.shard.attempt, *known)

    assert count() == 0
    store.create(new_task())  # a synchronous run is not in the queue
    assert count() == 0
    put(store, number=2, shards=3)
    assert count() == 6
    begun = claim(store.engine, "here:1")
    assert begun is not None
    assert count() == 6  # the node in work is needed
    end(begun)
    assert count() == 5

    group = [new(new_task) for _ in range(MOST_CLAIMED + 1)]
    assert SmallTasks(store.engine).accept(group, fits) == [None] * len(group)
    assert count() == 5 + 2  # a node takes 256 of them at once
    while (begun := claim(store.engine, "here:1")) is not None:
        end(begun)
    assert count() == 0
