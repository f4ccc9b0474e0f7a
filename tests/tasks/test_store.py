"""The contract of the task store, for each database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import StatementError

from hotloop.app.errors import ClientLimitError, TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.tasks.model import FINISHED, MOVES, UNFINISHED, ShardRef, Task
from hotloop.app.tasks.store import TaskStore, open_store
from tests.fixtures.executions import Execution, begin, end, summary

NewTask = Callable[..., Task]
BringTo = Callable[[Task, TaskStatus], None]
Running = Callable[[int], str]


def test_new_task_is_read_back_unchanged(store: TaskStore, new_task: NewTask) -> None:
    plain = new_task()
    full = new_task(
        total_items=10_000_000_000,
        measurements={"seconds": 0.1 + 0.2, "errors": [{"item_id": 2**63 - 1}]},
        error_code="code",
        error_message="ünïcode 'quotes' \U0001f600",
    )
    for task in (plain, full):
        store.create(task)
        assert store.get(task.task_id) == task
        assert store.status(task.task_id) is TaskStatus.PENDING


def test_store_keeps_tasks_when_it_is_opened_again(location: Path | str, new_task: NewTask) -> None:
    task = new_task()
    first = open_store(location)
    first.create(task)
    first.close()
    second = open_store(location)
    assert second.get(task.task_id) == task
    second.close()


def test_same_id_again_is_a_conflict(store: TaskStore, new_task: NewTask) -> None:
    task = new_task()
    store.create(task)
    with pytest.raises(TaskConflictError, match="there is such a task already"):
        store.create(replace(task, kernel="python"))
    assert store.get(task.task_id) == task


def test_check_gets_the_clients_unfinished_tasks_and_may_refuse(
    store: TaskStore, new_task: NewTask
) -> None:
    of_client: dict[str, Any] = {"task_type": TaskType.BACKGROUND, "client": "somebody"}
    told: list[tuple[int, float]] = []

    def check(count: int, seconds: float) -> None:
        told.append((count, seconds))
        if count == 2:
            raise ClientLimitError("two are enough", 1)

    for seconds in (1.5, None):
        store.create(new_task(**of_client, estimated_seconds=seconds), check=check)
    store.create(new_task(task_type=TaskType.BACKGROUND, estimated_seconds=9.0), check=check)
    third = new_task(**of_client)
    with pytest.raises(ClientLimitError):
        store.create(third, check=check)
    assert told == [(0, 0.0), (1, 1.5), (0, 0.0), (2, 1.5)]
    assert store.unfinished("somebody") == (2, 1.5)
    with pytest.raises(TaskNotFoundError):
        store.get(third.task_id)


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
def test_concurrent_creates_in_a_file_do_not_exceed_the_limit(
    store: TaskStore, new_task: NewTask
) -> None:
    barrier = threading.Barrier(8)

    def check(count: int, seconds: float) -> None:
        if count == 3:
            raise ClientLimitError("three are enough", 1)

    def create(task: Task) -> bool:
        barrier.wait()
        try:
            store.create(task, check=check)
        except ClientLimitError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        asked = [new_task(task_type=TaskType.BACKGROUND) for _ in range(8)]
        assert sum(threads.map(create, asked)) == 3


def test_times_are_stored_as_utc(store: TaskStore, new_task: NewTask) -> None:
    zone = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2024, 3, 1, 1, 2, 3, 456789, tzinfo=zone)
    task = new_task(created_at=moment)
    store.create(task)
    kept = store.get(task.task_id).created_at
    assert kept == moment
    assert kept.tzinfo is UTC


def test_time_without_zone_is_refused(store: TaskStore, new_task: NewTask) -> None:
    with pytest.raises(StatementError, match="a time without a time zone"):
        store.create(new_task(created_at=datetime(2024, 1, 1)))


def test_a_task_s_life(store: TaskStore, new_task: NewTask) -> None:
    task = new_task()
    store.create(task)
    before = datetime.now(UTC)

    execution = begin(store, task.task_id, node="77:3.5", total_items=12)
    running = store.get(task.task_id)
    assert running.start_time is not None
    assert before <= running.start_time <= datetime.now(UTC)
    assert running == replace(
        task,
        status=TaskStatus.RUNNING,
        owner="77:3.5",
        total_items=12,
        start_time=running.start_time,
    )

    execution.processed, execution.failed = 6, 2
    execution.add()
    assert store.get(task.task_id) == replace(running, items_processed=6, failed_items=2)

    execution.end(TaskStatus.FAILED, error_code="run_timeout", error_message="too slow")
    ended = store.get(task.task_id)
    assert ended.end_time is not None
    assert running.start_time <= ended.end_time <= datetime.now(UTC)
    assert ended == replace(
        running,
        status=TaskStatus.FAILED,
        items_processed=6,
        failed_items=2,
        end_time=ended.end_time,
        measurements={"starts": [[]]},
        error_code="run_timeout",
        error_message="too slow",
    )


def move(store: TaskStore, task_id: str, target: TaskStatus) -> None:
    if target is TaskStatus.PENDING:
        store.shards.resume(task_id)
    elif target is TaskStatus.RUNNING:
        begin(store, task_id, node="2:2.0", total_items=10)
    elif target is TaskStatus.CANCELLED:
        store.shards.cancel(task_id, summary)
    elif target is TaskStatus.FAILED and store.status(task_id) is TaskStatus.PENDING:
        store.finish_unbegun(task_id, target, "internal_error", "it broke")
    else:
        end(store, task_id, target)


@pytest.mark.parametrize("target", TaskStatus)
@pytest.mark.parametrize("source", TaskStatus)
def test_moves_are_those_of_the_table(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, source: TaskStatus, target: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, source)
    before = store.get(task.task_id), store.shards.of_task(task.task_id)
    if target in MOVES[source]:
        move(store, task.task_id, target)
        assert store.get(task.task_id).status is target
        assert [shard.status for shard in store.shards.of_task(task.task_id)] == [target]
    else:
        words = f"task {task.task_id}: (it|its shard 0) is {source}"
        with pytest.raises(TaskConflictError, match=words):
            move(store, task.task_id, target)
        assert (store.get(task.task_id), store.shards.of_task(task.task_id)) == before


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_execution_ends_only_in_a_finished_state(
    store: TaskStore, running: Running, status: TaskStatus
) -> None:
    task_id = running(10)
    before = store.get(task_id)
    with pytest.raises(ValueError, match=f"{status} is not an end"):
        end(store, task_id, status)
    assert store.get(task_id) == before


@pytest.mark.parametrize("status", sorted(FINISHED - {TaskStatus.COMPLETED}))
def test_task_that_never_began_ends_with_its_shards(
    store: TaskStore, new_task: NewTask, status: TaskStatus
) -> None:
    task, bystander = new_task(total_items=20), new_task()
    store.create(task, [10, 10])
    store.create(bystander)
    store.finish_unbegun(task.task_id, status, "upload_invalid", "row 7 is no number")
    ended = store.get(task.task_id)
    assert ended.end_time is not None
    assert ended == replace(
        task,
        status=status,
        end_time=ended.end_time,
        error_code="upload_invalid",
        error_message="row 7 is no number",
    )
    for shard in store.shards.of_task(task.task_id):
        assert (shard.status, shard.attempt, shard.error_code, shard.error_message) == (
            status,
            0,
            "upload_invalid",
            "row 7 is no number",
        )
    assert store.get(bystander.task_id) == bystander


@pytest.mark.parametrize("status", sorted(UNFINISHED | {TaskStatus.COMPLETED}))
def test_task_that_never_began_cannot_become_anything_else(
    store: TaskStore, new_task: NewTask, status: TaskStatus
) -> None:
    task = new_task()
    store.create(task)
    with pytest.raises(ValueError, match=f"{status} is not an end without an execution"):
        store.finish_unbegun(task.task_id, status, "code", "text")
    assert store.get(task.task_id) == task


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {TaskStatus.PENDING}))
def test_task_that_has_begun_is_ended_by_its_execution_only(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, status)
    before = store.get(task.task_id), store.shards.of_task(task.task_id)
    with pytest.raises(TaskConflictError, match=f"it is {status}; its execution has begun"):
        store.finish_unbegun(task.task_id, TaskStatus.FAILED, "code", "text")
    assert (store.get(task.task_id), store.shards.of_task(task.task_id)) == before


@pytest.mark.parametrize("status", sorted(set(TaskStatus) - {TaskStatus.RUNNING}))
def test_results_need_a_running_task(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, status)
    before = store.get(task.task_id)
    with pytest.raises(TaskConflictError, match=f"it is {status}; results need a running task"):
        Execution(store, *store.shards.of_task(task.task_id)).add()
    assert store.get(task.task_id) == before


@pytest.mark.parametrize(
    "task_id", ["task_ffffffff_1700000000", "", "nonsense", "task_'; DROP", "\0", "\ud800"]
)
def test_unknown_task_is_not_found(store: TaskStore, new_task: NewTask, task_id: str) -> None:
    store.create(new_task())
    ref = ShardRef(task_id, 0, 0)
    calls: list[Callable[[], object]] = [
        lambda: store.get(task_id),
        lambda: store.results(task_id),
        lambda: store.finish_unbegun(task_id, TaskStatus.FAILED, "code", "text"),
        lambda: store.shards.begin(ref, "1:1.0"),
        lambda: store.shards.begin(ref, "1:1.0", 10),
        lambda: store.shards.add_results(ref, 1, [], 1, 0, {}),
        lambda: store.shards.end(ref, 1, TaskStatus.FAILED, {}, 0, summary),
        lambda: store.shards.give_back(ref, 1, {}, 0),
        lambda: store.shards.cancel(task_id, summary),
        lambda: store.shards.resume(task_id),
        lambda: store.shards.of_task(task_id),
        lambda: store.shards.missing(ref),
        lambda: store.delete(task_id),
        lambda: store.withdraw(task_id),
    ]
    for call in calls:
        with pytest.raises(TaskNotFoundError):
            call()
    assert store.status(task_id) is None
    assert not store.shards.is_current(ref, 0)
