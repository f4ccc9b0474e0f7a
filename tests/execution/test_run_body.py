"""A run's events on their way to the store: all of a message, or nothing of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hotloop.app.database.engine import FILE_NAME
from hotloop.app.errors import StoreError, TaskConflictError
from hotloop.app.execution import run_body
from hotloop.app.execution.presenters import task_view
from hotloop.app.execution.run_body import RunBody, RunCollector
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.observability.health import SourceMonitor
from hotloop.app.runhost.measurements import KEPT_ERRORS, LagSummary, Measurements
from hotloop.app.runhost.messages import Batches, Progress, RunStarted
from hotloop.app.sources.base import Batch, ItemError, StageCounts
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.model import Shard, ShardRef, Task
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.wiring import BODIES
from tests.fixtures.plans import make_plan
from tests.fixtures.results import ids, opened

TASK_ID = "task_00000000_1700000000"
REF = ShardRef(TASK_ID, 0, 0)
PLAN = make_plan(
    StrategyName.SEQUENTIAL,
    items=GeneratedItems(1_000),
    stages=(SimulatedStage("db", 0.0, 0.0, source="redis"),),
)
REPORTED = Measurements(
    setup_seconds=0.5,
    duration_seconds=2.0,
    effective_workers=2,
    io_seconds=1.0,
    cpu_seconds=3.0,
    cpu_utilization=0.75,
    peak_memory_bytes=1_000,
)

Collect = Callable[[Shard], RunCollector]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    """A store with a task of 1,000 items, which waits 50 ms for a lock."""
    store = open_store(tmp_path, busy_timeout_seconds=0.05)
    task = Task(
        task_id=TASK_ID,
        task_type="background",
        spec={"workers": 1, "batch_size": 10, "db": "redis", "cache": "none"},
        workload="loops",
        kernel="python",
        strategy="sequential",
        total_items=1_000,
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        owner="1:1.0",
    )
    store.create(task)
    yield store
    store.close()


@pytest.fixture
def sources() -> SourceMonitor:
    return SourceMonitor(("redis",))


@pytest.fixture
def collect(store: TaskStore, sources: SourceMonitor) -> Collect:
    return lambda shard: RunCollector(PLAN, shard, store.shards, sources)


def started(setup_seconds: float, workers: int) -> RunStarted:
    return RunStarted(Measurements(setup_seconds=setup_seconds, effective_workers=workers))


def batch(start: int, failed: int = 0) -> BatchResult:
    """Ten items, the first of which failed; every number differs from batch to batch."""
    item_ids = np.arange(start, start + 10)
    fails = np.arange(10) < failed
    errors = tuple(ItemError(start + i, "db", "no row") for i in range(failed))
    return BatchResult(
        batch=Batch(start // 10, start, 10),
        item_ids=item_ids,
        columns={"loop": item_ids / 2, "nested": -item_ids},
        failed=fails,
        errors=errors,
        checksum=2**63 + start,
        io_seconds=0.25,
        counts={"db": StageCounts(10, 1, 10 - failed, failed)},
    )


def state(collector: RunCollector) -> tuple[int, int, Measurements]:
    """Return the measurements without the duration, which grows all the time."""
    details = replace(collector.measurements(), duration_seconds=None)
    return collector.items_processed, collector.failed_items, details


def stored_ids(store: TaskStore) -> list[int]:
    return ids(list(opened(store, TASK_ID).blocks()))


def stored_details(store: TaskStore) -> Measurements:
    return Measurements.from_json(store.shards.of_task(TASK_ID)[0].details)


def test_message_is_stored_with_counts_and_details(
    store: TaskStore, collect: Collect, sources: SourceMonitor
) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    collector.start(started(0.5, 2))
    collector.add(Batches((batch(20, failed=2), batch(0))))
    collector.add(Batches((batch(10, failed=1),)))
    (shard,) = store.shards.of_task(TASK_ID)
    assert (shard.items_processed, shard.failed_items) == (30, 3)
    assert stored_ids(store) == list(range(30))
    details = stored_details(store)
    assert details.duration_seconds is not None
    assert replace(details, duration_seconds=None) == Measurements(
        checksum=(3 * 2**63 + 30) % 2**64,
        errors=tuple(ItemError(i, "db", "no row") for i in (20, 21, 10)),
        stages={"db": ("redis", StageCounts(30, 3, 27, 3))},
        io_seconds=0.75,
        setup_seconds=0.5,
        effective_workers=2,
        batch_size=PLAN.batch_size,
    )
    assert sources.states()["redis"].counts == StageCounts(30, 3, 27, 3)


def test_message_is_stored_after_the_lock_is_released(
    tmp_path: Path, store: TaskStore, collect: Collect, sources: SourceMonitor
) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    collector.add(Batches((batch(0, failed=1),)))
    before, event = state(collector), Batches((batch(10, failed=2), batch(20)))
    kept = store.shards.of_task(TASK_ID)
    counted = sources.states()["redis"].counts
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(2):
            with pytest.raises(StoreError, match="locked for too long"):
                collector.add(event)
            assert state(collector) == before
        other.execute("ROLLBACK")
    assert store.shards.of_task(TASK_ID) == kept
    assert sources.states()["redis"].counts == counted
    collector.add(event)
    assert state(collector)[:2] == (30, 3)
    assert stored_ids(store) == list(range(30))
    assert stored_details(store) == replace(collector.measurements(), duration_seconds=None)
    assert sources.states()["redis"].counts == StageCounts(30, 3, 27, 3)


def test_message_with_a_lost_commit_answer_is_accepted_again(
    store: TaskStore, collect: Collect
) -> None:
    """A repeated call, as after a connection broke at the commit, adds nothing."""
    shard = store.shards.begin(REF, "1:1.0")
    event = Batches((batch(0, failed=1), batch(10)))
    collect(shard).add(event)
    collector = collect(shard)
    collector.add(event)
    task = store.get(TASK_ID)
    assert (task.items_processed, task.failed_items) == (20, 1)
    assert stored_ids(store) == list(range(20))
    assert stored_details(store) == replace(collector.measurements(), duration_seconds=None)


def test_replaced_execution_stores_nothing(
    store: TaskStore, collect: Collect, sources: SourceMonitor
) -> None:
    frozen = collect(store.shards.begin(REF, "1:1.0"))
    frozen.add(Batches((batch(0),)))
    before = state(frozen)
    later = collect(store.shards.begin(REF, "2:2.0"))
    with pytest.raises(TaskConflictError, match="it has been taken over"):
        frozen.add(Batches((batch(10),)))
    assert state(frozen) == before
    later.add(Batches((batch(20),)))
    assert stored_ids(store) == [*range(10), *range(20, 30)]
    assert sources.states()["redis"].counts.calls == 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"columns": {"loop": np.zeros(10)}},
        {"counts": {"elsewhere": StageCounts(1, 1, 1, 1)}},
        {"batch": Batch(99, 995, 10)},
    ],
    ids=["columns", "stage", "position"],
)
def test_message_that_makes_no_sense_changes_nothing(
    store: TaskStore,
    collect: Collect,
    sources: SourceMonitor,
    wrong: dict[str, object],
) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    collector.add(Batches((batch(0, failed=1),)))
    before, kept = state(collector), store.shards.of_task(TASK_ID)
    bad = replace(batch(10, failed=2), **wrong)  # type: ignore[arg-type]
    with pytest.raises((ValueError, KeyError)):
        collector.add(Batches((batch(20, failed=3), bad)))
    assert state(collector) == before
    assert store.shards.of_task(TASK_ID) == kept
    assert sources.states()["redis"].counts.calls == 10


def test_errors_are_bounded_and_all_are_counted(store: TaskStore, collect: Collect) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    for start in range(0, 150, 30):
        collector.add(Batches(tuple(batch(start + i, failed=10) for i in (0, 10, 20))))
    assert collector.failed_items == 150
    errors = stored_details(store).errors
    assert [error.item_id for error in errors] == list(range(KEPT_ERRORS))
    again = collect(store.shards.begin(REF, "1:1.0"))
    again.add(Batches((batch(150, failed=1),)))
    assert again.failed_items == 151
    assert stored_details(store).errors == errors


def test_report_replaces_counts_of_this_process(store: TaskStore, collect: Collect) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    collector.start(started(9.0, 9))
    collector.add(Batches((batch(0),)))
    collector.measured = REPORTED
    lag = collector.lag = LagSummary(1.0, 2.0, 3.0)
    assert collector.measurements() == Measurements(
        checksum=2**63,
        stages={"db": ("redis", StageCounts(10, 1, 10, 0))},
        io_seconds=1.0,
        duration_seconds=2.0,
        setup_seconds=0.5,
        effective_workers=2,
        batch_size=PLAN.batch_size,
        cpu_seconds=3.0,
        cpu_utilization=0.75,
        peak_memory_bytes=1_000,
        event_loop_lag_ms=lag,
    )


@pytest.mark.parametrize("way", ["cancelled", "given back", "killed"])
def test_resumed_shard_goes_on_from_the_details(
    store: TaskStore, collect: Collect, way: str
) -> None:
    shard = store.shards.begin(REF, "1:1.0")
    first = collect(shard)
    first.start(started(0.5, 2))
    first.add(Batches((batch(0, failed=1),)))
    generation = 0
    if way == "cancelled":
        store.shards.cancel(TASK_ID, RunBody().summarize)
        generation = store.shards.resume(TASK_ID)[0].generation
    elif way == "given back":
        first.measured = REPORTED
        store.shards.give_back(REF, shard.attempt, first.measurements().to_json(), 10)
    before = stored_details(store)

    again = store.shards.begin(ShardRef(TASK_ID, 0, generation), "2:2.0")
    second = collect(again)
    assert second.measurements() == before
    assert (second.items_processed, second.failed_items) == (10, 1)
    second.start(started(0.25, 1))
    second.add(Batches((batch(10, failed=2),)))
    assert (second.items_processed, second.failed_items) == (20, 3)
    second.measured = REPORTED
    details = second.measurements()
    assert details.checksum == 10
    assert [error.item_id for error in details.errors] == [0, 10, 11]
    assert details.stages == {"db": ("redis", StageCounts(20, 2, 17, 3))}
    assert details.io_seconds == before.io_seconds + 1.0
    assert details.duration_seconds == (before.duration_seconds or 0.0) + 2.0
    assert details.setup_seconds == 1.0
    end = store.shards.end(
        again.ref, again.attempt, TaskStatus.COMPLETED, details.to_json(), 20, RunBody().summarize
    )
    assert end is TaskStatus.COMPLETED
    task = store.get(TASK_ID)
    assert (task.items_processed, task.failed_items) == (20, 3)
    assert Measurements.from_json(task.measurements) == details


def shown(store: TaskStore) -> int:
    """Return the processed items that clients see and that watchers of events are told."""
    view = task_view(store, BODIES, TASK_ID)
    assert store.progress([TASK_ID]) == {TASK_ID: (view.status, view.items_processed)}
    assert view.progress == view.items_processed / 1_000
    return view.items_processed


def test_items_in_work_are_shown_and_not_counted_twice(store: TaskStore, collect: Collect) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    collector.start(started(0.5, 2))
    assert collector.note(Progress(7))
    collector.store_progress()
    assert (shown(store), store.get(TASK_ID).items_processed) == (7, 0)
    assert task_view(store, BODIES, TASK_ID).estimated_remaining_seconds is not None
    collector.add(Batches((batch(0),)))  # those seven are among them
    assert shown(store) == 10
    collector.note(Progress(25))
    collector.store_progress()
    assert (shown(store), store.get(TASK_ID).items_processed) == (25, 10)
    collector.add(Batches((batch(10),)))  # and of another batch, five are worth what they were
    assert (shown(store), store.get(TASK_ID).items_processed) == (25, 20)
    collector.note(Progress(5_000))
    collector.store_progress()
    assert shown(store) == 1_000
    assert stored_ids(store) == list(range(20))


def test_progress_is_stored_by_itself_only_when_nothing_was_for_a_while(
    store: TaskStore, collect: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(run_body.time, "perf_counter", lambda: now)  # type: ignore[attr-defined]
    collector = collect(store.shards.begin(REF, "1:1.0"))
    collector.add(Batches((batch(0),)))
    assert not collector.note(Progress(12))
    now += run_body.STORE_SECONDS
    assert collector.note(Progress(13))
    collector.store_progress()
    assert not collector.note(Progress(14))
    assert shown(store) == 13


@pytest.mark.parametrize("way", ["completed", "cancelled", "given back", "killed"])
def test_items_in_work_go_with_their_execution(
    store: TaskStore, collect: Collect, way: str
) -> None:
    """Ended, the task has exactly what is stored; executed again, only what that passes."""
    shard = store.shards.begin(REF, "1:1.0")
    first = collect(shard)
    first.add(Batches((batch(0),)))
    first.note(Progress(18))
    first.store_progress()
    assert shown(store) == 18
    details = first.measurements().to_json()
    assert "in_work" not in details
    if way == "completed":
        store.shards.end(REF, shard.attempt, TaskStatus.COMPLETED, details, 10, RunBody().summarize)
    elif way == "cancelled":
        store.shards.cancel(TASK_ID, RunBody().summarize)
        assert "in_work" not in (store.get(TASK_ID).measurements or {})
    elif way == "given back":
        store.shards.give_back(REF, shard.attempt, details, 10)
    if way != "killed":
        assert shown(store) == 10
    if way in ("completed", "cancelled"):
        return
    again = collect(store.shards.begin(REF, "2:2.0"))
    assert shown(store) == 10
    again.note(Progress(3))
    again.store_progress()
    assert shown(store) == 13
    with pytest.raises(TaskConflictError, match="taken over"):
        first.store_progress()
    assert shown(store) == 13


def test_message_that_a_call_given_up_has_stored_counts_once(
    store: TaskStore, collect: Collect
) -> None:
    collector = collect(store.shards.begin(REF, "1:1.0"))
    event = Batches((batch(0, failed=1), batch(10)))
    collector.add(event)
    before = state(collector)
    collector.add(event)
    assert state(collector) == before
    assert before[0] == 20
