"""tasks.shards, tasks.rows: shards are begun, taken over, given back and ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from hotloop.app.errors import TaskConflictError, TaskNotFoundError
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.claims import claim, put_back
from hotloop.app.tasks.model import FINISHED, Shard, ShardRef, Task
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import begin, check_counts, queued, refuses_all

NewTask = Callable[..., Task]
BringTo = Callable[[Task, TaskStatus], None]
NewResult = Callable[..., BatchResult]
Sharded = Callable[..., str]

TAKEN_OVER = "it has been taken over by a later execution"


def statuses(store: TaskStore, task_id: str) -> list[str]:
    return [str(shard.status) for shard in store.shards.of_task(task_id)]


# --- creating ------------------------------------------------------------------------------


def test_task_has_one_shard_by_default(store: TaskStore, new_task: NewTask) -> None:
    task = new_task(total_items=7)
    store.create(task)
    assert store.shards.of_task(task.task_id) == [
        Shard(task_id=task.task_id, shard=0, start=0, count=7)
    ]


def test_shards_are_one_after_another(store: TaskStore, sharded: Sharded) -> None:
    task_id = sharded([5, 10_000_000_000, 3])
    starts = [0, 5, 10_000_000_005]
    assert [replace(shard, needs=None) for shard in store.shards.of_task(task_id)] == [
        Shard(task_id=task_id, shard=number, start=start, count=count)
        for number, (start, count) in enumerate(zip(starts, [5, 10_000_000_000, 3], strict=True))
    ]


def test_page_has_the_shards_of_its_tasks(store: TaskStore, sharded: Sharded) -> None:
    task_ids = [sharded([2] * count) for count in (1, 12, 3)]
    begin(store, task_ids[1], 11)
    page = store.page(limit=2)
    assert page.shards == {task_id: store.shards.of_task(task_id) for task_id in task_ids[:2]}
    assert [shard.shard for shard in page.shards[task_ids[1]]] == list(range(12))
    assert store.page(limit=2, offset=3).shards == {}


# --- beginning -----------------------------------------------------------------------------


def test_begin_makes_shard_and_task_running(store: TaskStore, sharded: Sharded) -> None:
    task_id = sharded([5, 5])
    before = datetime.now(UTC)
    shard = store.shards.begin(ShardRef(task_id, 1, 0), "node-a")
    assert shard == Shard(
        task_id=task_id,
        shard=1,
        start=5,
        count=5,
        status=TaskStatus.RUNNING,
        attempt=1,
        node="node-a",
        beginnings=1,
        needs=shard.needs,
    )
    assert store.shards.of_task(task_id)[1] == shard
    assert statuses(store, task_id) == ["pending", "running"]
    task = store.get(task_id)
    assert (task.status, task.owner, task.total_items) == (TaskStatus.RUNNING, "node-a", 10)
    assert task.start_time is not None
    assert before <= task.start_time <= datetime.now(UTC)


def test_task_starts_with_its_first_execution(store: TaskStore, sharded: Sharded) -> None:
    task_id = sharded([5, 5])
    begin(store, task_id, 0)
    started = store.get(task_id).start_time
    begin(store, task_id, 1)
    begin(store, task_id, 0)
    assert store.get(task_id).start_time == started


def test_items_counted_at_the_beginning_are_stored_for_task_and_shard(
    store: TaskStore, new_task: NewTask
) -> None:
    task = new_task(total_items=0)
    store.create(task)
    execution = begin(store, task.task_id, total_items=12)
    assert execution.shard.count == store.get(task.task_id).total_items == 12
    assert store.shards.missing(execution.shard.ref) == [(0, 12)]
    assert begin(store, task.task_id).shard.count == 12


def test_takeover_continues_with_stored_progress(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([100, 100])
    first = begin(store, task_id, node="frozen")
    first.add(result(0, 10, failed=(3,)), result(20, 10))
    second = begin(store, task_id, node="later")
    assert second.shard == replace(
        first.shard,
        attempt=2,
        node="later",
        items_processed=20,
        failed_items=1,
        details={"starts": [0, 20]},
    )
    assert store.get(task_id).owner == "later"
    assert store.shards.missing(second.shard.ref) == [(10, 10), (30, 70)]
    second.add(result(10, 10))
    assert store.shards.of_task(task_id)[0].details == {"starts": [0, 20, 10]}
    check_counts(store, task_id)


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_shard_that_has_ended_does_not_begin_again(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, status)
    with pytest.raises(TaskConflictError, match=f"its shard 0 is {status}"):
        begin(store, task.task_id)
    assert store.status(task.task_id) is status


@pytest.mark.parametrize("shard", [-1, 2])
def test_unknown_shard_is_not_found(store: TaskStore, sharded: Sharded, shard: int) -> None:
    ref = ShardRef(sharded([5, 5]), shard, 0)
    for call in (
        lambda: store.shards.begin(ref, "1:1.0"),
        lambda: store.shards.missing(ref),
        lambda: store.shards.give_back(ref, 0, {}, 0),
    ):
        with pytest.raises(TaskNotFoundError):
            call()
    assert not store.shards.is_current(ref, 0)


# --- giving back ---------------------------------------------------------------------------


def test_next_execution_continues_one_that_was_given_back(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([30])
    first = begin(store, task_id, node="stops")
    first.add(result(0, 10))
    first.starts.append(-1)  # measured since
    first.give_back()
    (shard,) = store.shards.of_task(task_id)
    assert (shard.status, shard.node, shard.details) == ("running", None, {"starts": [0, -1]})
    assert store.get(task_id).status is TaskStatus.RUNNING
    assert queued(store) == [shard.ref]
    second = begin(store, task_id, node="goes on")
    refuses_all(store, first, result(10, 10), TAKEN_OVER)
    second.add(result(10, 10), result(20, 10))
    assert second.end() is TaskStatus.COMPLETED
    assert store.get(task_id).measurements == {"starts": [[0, -1, 10, 20]]}
    check_counts(store, task_id)


def test_shard_given_back_to_its_node_is_claimed_by_no_other(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    first = begin(store, sharded([30]), node="a:1")
    first.add(result(0, 10))
    first.give_back("a:1")
    assert claim(store.engine, "b:1") is None
    again = store.shards.begin(first.shard.ref, "a:1", after=1)
    assert (again.attempt, again.items_processed) == (2, 10)


def test_begin_after_an_outdated_attempt_is_refused(store: TaskStore, sharded: Sharded) -> None:
    first = begin(store, sharded([30]), node="a:1")
    first.give_back("a:1")
    assert put_back(store.engine, "a:1") == [first.shard.ref]
    taken = claim(store.engine, "b:1")
    assert taken is not None
    with pytest.raises(TaskConflictError, match=TAKEN_OVER):
        store.shards.begin(first.shard.ref, "a:1", after=1)
    assert store.shards.is_current(taken.shard.ref, taken.shard.attempt)


@pytest.mark.parametrize("way", ["end", "give back"])
def test_details_of_fewer_items_than_are_stored_change_nothing(
    store: TaskStore, sharded: Sharded, result: NewResult, way: str
) -> None:
    """The results were stored, and the execution never heard of it."""
    execution = begin(store, sharded([30]))
    execution.add(result(0, 10))
    before = execution.processed, execution.failed, execution.starts
    execution.add(result(10, 10))
    execution.processed, execution.failed, execution.starts = before
    if way == "end":
        execution.end(TaskStatus.FAILED)
    else:
        execution.give_back()
    (shard,) = store.shards.of_task(execution.shard.task_id)
    assert (shard.items_processed, shard.details) == (20, {"starts": [0, 10]})


# --- ending --------------------------------------------------------------------------------


def test_task_ends_with_its_last_shard(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([10, 10, 10])
    executions = [begin(store, task_id, number) for number in range(3)]
    for number in (2, 0, 1):
        executions[number].add(result(10 * number, 10, failed=(10 * number,)))
        check_counts(store, task_id)
    assert executions[2].end() is TaskStatus.RUNNING
    assert executions[0].end() is TaskStatus.RUNNING
    running = store.get(task_id)
    assert (running.status, running.end_time, running.measurements) == ("running", None, None)
    assert statuses(store, task_id) == ["completed", "running", "completed"]
    assert executions[1].end() is TaskStatus.COMPLETED
    task = store.get(task_id)
    assert task.start_time is not None
    assert task.end_time is not None
    assert task.start_time <= task.end_time <= datetime.now(UTC)
    assert task.status is TaskStatus.COMPLETED
    assert task.measurements == {"starts": [[0], [10], [20]]}
    assert (task.items_processed, task.failed_items) == (30, 3)


def test_task_waits_for_shards_that_have_not_begun(store: TaskStore, sharded: Sharded) -> None:
    task_id = sharded([10, 10])
    assert begin(store, task_id, 1).end() is TaskStatus.RUNNING
    assert begin(store, task_id, 0).end() is TaskStatus.COMPLETED


@pytest.mark.parametrize("status", sorted(FINISHED - {TaskStatus.COMPLETED}))
def test_task_ends_at_once_when_a_shard_does_not_complete(
    store: TaskStore, sharded: Sharded, result: NewResult, status: TaskStatus
) -> None:
    task_id = sharded([10, 10, 10, 10])
    bystander = begin(store, sharded([10, 10]))
    done, bad, busy = (begin(store, task_id, number) for number in range(3))
    done.add(result(0, 10))
    done.end()
    busy.add(result(20, 5))
    bad.add(result(10, 2))
    assert bad.end(status, error_code="run_error", error_message="it broke") is status
    assert statuses(store, task_id) == ["completed", status, "cancelled", "cancelled"]
    task = store.get(task_id)
    assert (task.status, task.error_code, task.error_message) == (status, "run_error", "it broke")
    assert task.end_time is not None
    assert task.measurements == {"starts": [[0], [10], [20], []]}
    errors = [shard.error_code for shard in store.shards.of_task(task_id)]
    assert errors == [None, "run_error", None, None]
    refuses_all(store, busy, result(25, 5), "it is cancelled; results need a running task")
    for number in range(4):
        with pytest.raises(TaskConflictError, match=f"its shard {number} is "):
            begin(store, task_id, number)
    check_counts(store, task_id)
    assert bystander.is_current()


# --- what is unfinished --------------------------------------------------------------------


def test_unfinished_are_those_of_background_tasks_oldest_first(
    store: TaskStore, sharded: Sharded, new_task: NewTask, bring_to: BringTo
) -> None:
    newer, older = sharded([10, 10, 10]), sharded([10, 10])
    begin(store, newer, 1).end()
    begin(store, newer, 2)
    for status in TaskStatus:
        bring_to(new_task(), status)  # synchronous
        task = new_task(task_type="background", created_at=datetime(2020, 1, 1, tzinfo=UTC))
        if status in FINISHED:
            bring_to(task, status)
    assert queued(store) == [
        ShardRef(task_id, shard, 0)
        for task_id, shard in [(older, 0), (older, 1), (newer, 0), (newer, 2)]
    ]


def test_unfinished_of_tasks_of_one_moment_are_task_by_task(
    store: TaskStore, sharded: Sharded
) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    task_ids = [sharded([1, 1], created_at=moment) for _ in range(3)]
    assert queued(store) == [
        ShardRef(task_id, shard, 0) for task_id in task_ids for shard in (0, 1)
    ]


def test_orphans_are_synchronous_tasks_only_and_take_their_shards_along(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    background = sharded([10, 10], owner="dead:1")
    other = begin(store, background, node="dead:1")
    task_id = sharded([10, 10], owner="dead:1", task_type="synchronous")
    orphan = begin(store, task_id, node="dead:1")
    orphan.add(result(0, 5))
    assert store.interrupt_orphans(lambda _: False) == [task_id]
    assert statuses(store, task_id) == ["failed", "failed"]
    refuses_all(store, orphan, result(5, 5), "it is failed; results need a running task")
    assert other.is_current()
    assert statuses(store, background) == ["running", "pending"]
    check_counts(store, task_id)


# --- deleting ------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["delete", "delete_finished", "withdraw"])
def test_shards_go_with_their_task(store: TaskStore, sharded: Sharded, way: str) -> None:
    gone, kept = sharded([10, 10]), sharded([10, 10])
    begin(store, kept)
    if way == "withdraw":
        store.withdraw(gone)
    else:
        begin(store, gone).end(TaskStatus.FAILED)
        if way == "delete":
            store.delete(gone)
        else:
            assert store.delete_finished() == [gone]
    with pytest.raises(TaskNotFoundError):
        store.shards.of_task(gone)
    assert len(queued(store)) == len(store.shards.of_task(kept)) == 2
    store.create(replace(store.get(kept), task_id=gone))  # nothing is left of it
    assert [shard.attempt for shard in store.shards.of_task(gone)] == [0]
