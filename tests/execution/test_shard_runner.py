"""Shards of background tasks whose executions end without their fault."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hotloop.app.errors import RunHostDiedError, ServiceError, StoreUnavailableError
from hotloop.app.execution import shard_runner
from hotloop.app.execution.active_run import ActiveRun
from hotloop.app.execution.executions import Outcome
from hotloop.app.execution.shard_runner import ShardRunner
from hotloop.app.names import TaskStatus
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.tasks.claims import Claim, claim
from hotloop.app.tasks.model import Shard, Task, new_task_id
from hotloop.app.tasks.rows import FAILED_BEGINNING, MAX_BEGINNINGS
from hotloop.app.tasks.store import TaskStore, open_store

OUTAGE: ServiceError = StoreUnavailableError("it is down")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    store = open_store(tmp_path)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_PAUSE_SECONDS", "STORE_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(shard_runner, name, 0.0)


def claimed(store: TaskStore) -> Claim:
    task = Task(
        task_id=new_task_id(),
        task_type="background",
        spec={},
        workload="loops",
        kernel="numba",
        strategy="hybrid",
        total_items=1,
        created_at=datetime.now(UTC),
        owner="this",
    )
    store.create(task)
    found = claim(store.engine, "this")
    assert found is not None
    return found


class Runner(ShardRunner):
    """Its executions end with these errors, one after another; then one completes."""

    def __init__(self, context: Any, errors: list[ServiceError]) -> None:
        super().__init__(context)
        self.errors = errors

    async def _attempt(self, task: Task, shard: Shard, run: ActiveRun) -> Outcome:
        error = self.errors.pop(0) if self.errors else None
        return Outcome(error, Measurements(), 0, 0)


def ended(store: TaskStore, errors: list[ServiceError]) -> TaskStatus | None:
    metrics = SimpleNamespace(run_ended=lambda *_: None)
    context = SimpleNamespace(store=store, node="this", metrics=metrics)
    work = claimed(store)

    async def main() -> None:
        assert await Runner(context, errors)._run(work)

    asyncio.run(main())
    return store.status(work.task.task_id)


def test_outages_of_the_store_are_no_failures_of_the_task(store: TaskStore) -> None:
    assert ended(store, [OUTAGE] * 2 * MAX_BEGINNINGS) is TaskStatus.COMPLETED


def test_run_hosts_that_die_again_and_again_are(store: TaskStore) -> None:
    died: list[ServiceError] = [RunHostDiedError(-9)] * (MAX_BEGINNINGS // FAILED_BEGINNING)
    assert ended(store, died) is TaskStatus.FAILED
