"""Tasks, stores and results to test with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from hotloop.app.names import TaskStatus
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.model import Task
from hotloop.app.tasks.store import TaskStore, open_store
from tests.fixtures.executions import begin
from tests.fixtures.postgres_server import RunningPostgres, running_postgres
from tests.tasks.queue_fixtures import NodeProcesses, Queues

NEWEST = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


@pytest.fixture(scope="session")
def postgres() -> Iterator[RunningPostgres]:
    """A server for all tests of this process."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["postgresql", "sqlite"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """The place of a new store, in each supported database."""
    if request.param == "sqlite":
        yield tmp_path
        return
    server: RunningPostgres = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture
def store(location: Path | str) -> Iterator[TaskStore]:
    opened = open_store(location)
    yield opened
    opened.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[TaskStore]:
    """A store that waits 50 ms for a lock."""
    opened = open_store(tmp_path, busy_timeout_seconds=0.05)
    yield opened
    opened.close()


@pytest.fixture
def new_task() -> Callable[..., Task]:
    """Makes tasks, each a second older than the one before."""
    numbers = count()

    def make(**changes: Any) -> Task:
        number = next(numbers)
        plain: dict[str, Any] = {
            "task_id": f"task_{number:08x}_1700000000",
            "task_type": "synchronous",
            "spec": {"items_count": 10, "nested": {"list": [1, 2.5, None, True, "é"]}},
            "workload": "loops",
            "kernel": "numba",
            "strategy": "hybrid",
            "total_items": 10,
            "created_at": NEWEST - timedelta(seconds=number),
            "owner": "1:1.0",
        }
        return Task(**{**plain, **changes})

    return make


@pytest.fixture
def bring_to(store: TaskStore) -> Callable[[Task, TaskStatus], None]:
    """Keeps a task and moves it to a state, the allowed way."""

    def bring(task: Task, status: TaskStatus) -> None:
        store.create(task)
        if status is not TaskStatus.PENDING:
            execution = begin(store, task.task_id, node=task.owner, total_items=10)
        if status not in (TaskStatus.PENDING, TaskStatus.RUNNING):
            execution.processed, execution.failed = 4, 1
            execution.add()
            execution.end(status)

    return bring


@pytest.fixture
def running(store: TaskStore, new_task: Callable[..., Task]) -> Callable[[int], str]:
    """Makes a running task of so many items; its attempt is 1."""

    def make(total_items: int) -> str:
        task = new_task(total_items=total_items)
        store.create(task)
        begin(store, task.task_id, node=task.owner)
        return task.task_id

    return make


@pytest.fixture
def sharded(store: TaskStore, new_task: Callable[..., Task]) -> Callable[..., str]:
    """Makes a background task with shards of so many items."""

    def make(counts: Sequence[int], **changes: Any) -> str:
        task = new_task(total_items=sum(counts), **{"task_type": "background", **changes})
        store.create(task, counts)
        return task.task_id

    return make


@pytest.fixture
def result() -> Callable[..., BatchResult]:
    """Makes the result of a batch: loop = item_id / 2, nested = -item_id."""

    def make(start: int, count: int, failed: tuple[int, ...] = ()) -> BatchResult:
        item_ids = np.arange(start, start + count)
        fails = np.isin(item_ids, failed)
        columns = {
            "loop": np.where(fails, 0, item_ids / 2),
            "nested": np.where(fails, 0, -item_ids),
        }
        return BatchResult(Batch(0, start, count), item_ids, columns, fails, (), 0, 0.0)

    return make


@pytest.fixture
def engine(store: TaskStore) -> Engine:
    return store.engine


@pytest.fixture
def queues(store: TaskStore) -> Iterator[Queues]:
    made = Queues(store)
    yield made
    made.close()


@pytest.fixture
def processes(location: Path | str, tmp_path: Path) -> Iterator[NodeProcesses]:
    folder = tmp_path / "said"
    folder.mkdir()
    made = NodeProcesses(location, folder)
    yield made
    made.kill()
