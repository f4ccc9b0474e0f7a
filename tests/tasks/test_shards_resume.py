"""tasks.shards: cancelled and failed tasks are resumed, and their missing items found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hotloop.app.errors import TaskConflictError
from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.records import JsonObject
from hotloop.app.sources.base import Batch
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult
from hotloop.app.strategies.batching import batch_count, iter_batches
from hotloop.app.tasks import chunks
from hotloop.app.tasks.model import FINISHED, UNFINISHED, Shard, ShardRef, Task
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import Execution, begin, check_counts, queued, refuses_all, summary
from tests.fixtures.plans import make_plan
from tests.fixtures.results import ids, opened

pytestmark = pytest.mark.long

NewTask = Callable[..., Task]
BringTo = Callable[[Task, TaskStatus], None]
NewResult = Callable[..., BatchResult]
Sharded = Callable[..., str]


# --- cancelling ----------------------------------------------------------------------------


def test_cancel_of_a_pending_task(store: TaskStore, sharded: Sharded) -> None:
    task_id, bystander = sharded([5, 5]), sharded([5])
    refs = [shard.ref for shard in store.shards.of_task(task_id)]
    assert store.shards.cancel(task_id, summary) == refs
    task = store.get(task_id)
    assert task.status is TaskStatus.CANCELLED
    assert task.start_time is None
    assert task.end_time is not None
    assert task.measurements == {"starts": [[], []]}
    assert [shard.status for shard in store.shards.of_task(task_id)] == ["cancelled"] * 2
    assert store.results(task_id) is None
    assert queued(store) == [ShardRef(bystander, 0, 0)]


def test_cancel_of_a_running_task_fences_its_executions(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([10, 10, 10])
    done, busy = begin(store, task_id, 0), begin(store, task_id, 1)
    done.add(result(0, 10))
    done.end()
    busy.add(result(10, 5, failed=(12,)))
    assert store.shards.cancel(task_id, summary) == [
        ShardRef(task_id, 1, 0),
        ShardRef(task_id, 2, 0),
    ]
    shards = store.shards.of_task(task_id)
    assert [shard.status for shard in shards] == ["completed", "cancelled", "cancelled"]
    task = store.get(task_id)
    assert (task.status, task.items_processed, task.failed_items) == ("cancelled", 15, 1)
    assert task.measurements == {"starts": [[0], [10], []]}
    words = "it is cancelled; results need a running task"
    refuses_all(store, busy, result(15, 5), words)
    with pytest.raises(TaskConflictError, match="its shard 2 is cancelled"):
        begin(store, task_id, 2)
    check_counts(store, task_id)


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_cancel_of_a_finished_task_is_refused(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, status)
    before = store.get(task.task_id), store.shards.of_task(task.task_id)
    with pytest.raises(TaskConflictError, match=f"it is {status} and cannot become cancelled"):
        store.shards.cancel(task.task_id, summary)
    assert (store.get(task.task_id), store.shards.of_task(task.task_id)) == before


def test_cancel_whose_summary_fails_changes_nothing(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([10])
    execution = begin(store, task_id)

    def broken(_: Sequence[Shard]) -> JsonObject:
        raise ValueError("broken")

    for call in (
        lambda: store.shards.cancel(task_id, broken),
        lambda: store.shards.end(
            execution.shard.ref, 1, TaskStatus.COMPLETED, {"starts": [-1]}, 0, broken
        ),
    ):
        with pytest.raises(ValueError, match="broken"):
            call()
        assert store.get(task_id).status is TaskStatus.RUNNING
        assert store.shards.of_task(task_id) == [execution.shard]
    execution.add(result(0, 10))


# --- resuming ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_resume_keeps_stored_results_and_queues_the_rest(
    store: TaskStore, sharded: Sharded, result: NewResult, status: str
) -> None:
    task_id, bystander = sharded([10, 10, 10]), sharded([10])
    begin(store, bystander).end(TaskStatus.FAILED)
    done, half = begin(store, task_id, 0), begin(store, task_id, 1)
    done.add(result(0, 10))
    done.end()
    half.add(result(10, 5, failed=(11,)))
    half.end(TaskStatus(status), error_code="run_error", error_message="it broke")
    before, ended = store.shards.of_task(task_id), store.get(task_id)

    refs = store.shards.resume(task_id)

    assert refs == [ShardRef(task_id, 1, 1), ShardRef(task_id, 2, 1)]
    plain: dict[str, Any] = {
        "status": TaskStatus.PENDING,
        "generation": 1,
        "node": None,
        "error_code": None,
        "error_message": None,
    }
    assert store.shards.of_task(task_id) == [
        before[0],
        *(replace(shard, **plain) for shard in before[1:]),
    ]
    assert store.get(task_id) == replace(
        ended, status=TaskStatus.PENDING, end_time=None, error_code=None, error_message=None
    )
    assert queued(store) == refs
    assert ids(list(opened(store, task_id).blocks())) == list(range(15))
    assert [store.shards.missing(ref) for ref in refs] == [[(15, 5)], [(20, 10)]]
    assert store.get(bystander).status is TaskStatus.FAILED


def test_resumed_task_is_completed(store: TaskStore, sharded: Sharded, result: NewResult) -> None:
    task_id = sharded([10, 10])
    first = begin(store, task_id, 0)
    first.add(result(0, 4, failed=(1,)))
    store.shards.cancel(task_id, summary)
    started = store.get(task_id).start_time
    store.shards.resume(task_id)

    again = begin(store, task_id, 0, generation=1, node="2:2.0")
    assert (again.shard.attempt, again.processed, again.failed) == (2, 4, 1)
    assert again.starts == [0]
    assert store.get(task_id).start_time == started
    refuses_all(store, first, result(4, 6), "it has been taken over by a later execution")
    again.add(result(4, 6, failed=(5,)))
    check_counts(store, task_id)
    assert again.end() is TaskStatus.RUNNING
    last = begin(store, task_id, 1, generation=1)
    last.add(result(10, 10))
    assert last.end() is TaskStatus.COMPLETED
    task = store.get(task_id)
    assert (task.status, task.items_processed, task.failed_items) == ("completed", 20, 2)
    assert task.measurements == {"starts": [[0, 4], [10]]}
    assert task.error_code is None
    check_counts(store, task_id)


def test_task_is_resumed_as_often_as_it_fails(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([10, 10])
    done = begin(store, task_id, 1)
    done.add(result(10, 10))
    done.end()
    for generation in range(5):
        execution = begin(store, task_id, generation=generation)
        assert execution.shard.attempt == generation + 1
        execution.add(result(2 * generation, 2))
        if generation < 4:
            execution.end(TaskStatus.FAILED)
            assert store.shards.resume(task_id) == [ShardRef(task_id, 0, generation + 1)]
    assert execution.end() is TaskStatus.COMPLETED
    assert store.get(task_id).measurements == {"starts": [[0, 2, 4, 6, 8], [10]]}
    assert [shard.generation for shard in store.shards.of_task(task_id)] == [4, 0]
    check_counts(store, task_id)


def test_task_that_never_began_is_resumed(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([10])
    store.shards.cancel(task_id, summary)
    (ref,) = store.shards.resume(task_id)
    execution = begin(store, task_id, generation=ref.generation)
    execution.add(result(0, 10))
    assert execution.end() is TaskStatus.COMPLETED


@pytest.mark.parametrize("status", sorted(UNFINISHED | {TaskStatus.COMPLETED}))
def test_resume_of_unfinished_or_completed_tasks_is_refused(
    store: TaskStore, new_task: NewTask, bring_to: BringTo, status: TaskStatus
) -> None:
    task = new_task()
    bring_to(task, status)
    before = store.get(task.task_id), store.shards.of_task(task.task_id)
    words = f"it is {status}; only a failed or cancelled task can be resumed"
    with pytest.raises(TaskConflictError, match=words):
        store.shards.resume(task.task_id)
    assert (store.get(task.task_id), store.shards.of_task(task.task_id)) == before


def batches_of(total: int, missing: list[tuple[int, int]], batch_size: int) -> list[Batch]:
    """Cut the missing ranges into batches, as a strategy does."""
    plan = make_plan(
        StrategyName.SEQUENTIAL,
        items=GeneratedItems(total),
        batch_size=batch_size,
        ranges=tuple(missing),
    )
    found = list(iter_batches(plan))
    assert len(found) == batch_count(plan)
    return found


def positions(ranges: list[tuple[int, int]]) -> list[int]:
    return [n for start, count in ranges for n in range(start, start + count)]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    max_examples=60,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # an example is many transactions: no shrinking
)
@given(data=st.data())
def test_missing_and_stored_items_make_the_shard_after_any_interruption(
    store: TaskStore,
    sharded: Sharded,
    result: NewResult,
    monkeypatch: pytest.MonkeyPatch,
    data: st.DataObject,
) -> None:
    """Some batches in any order, in messages of any size, then an interruption of any kind; again
    and again. Missing ranges begin and end where batches do, so that the next execution has the
    same batches.
    """
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 7)  # cuts batches in two
    counts = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=3))
    number = data.draw(st.integers(0, len(counts) - 1))
    batch_size = data.draw(st.integers(1, 13))
    first, end = sum(counts[:number]), sum(counts[: number + 1])
    task_id, generation = sharded(counts), 0
    every = batches_of(sum(counts), [(first, end - first)], batch_size)
    left = {batch.start: batch.count for batch in every}

    for _ in range(data.draw(st.integers(1, 4))):
        execution = begin(store, task_id, number, generation)
        missing = store.shards.missing(execution.shard.ref)
        todo = batches_of(sum(counts), missing, batch_size)
        assert {batch.start: batch.count for batch in todo} == left
        check_missing(store, execution, missing, first, end)
        some = data.draw(st.permutations(todo)) if todo else []
        some = some[: data.draw(st.integers(0, len(some)))]
        while some:
            length = data.draw(st.integers(1, len(some)))
            execution.add(*(result(batch.start, batch.count) for batch in some[:length]))
            for batch in some[:length]:
                del left[batch.start]
            some = some[length:]
        generation += interrupt(store, execution, data.draw(st.sampled_from(INTERRUPTIONS)))
        check_counts(store, task_id)

    execution = begin(store, task_id, number, generation)
    check_missing(store, execution, store.shards.missing(execution.shard.ref), first, end)
    for start, count in left.items():
        execution.add(result(start, count))
    assert store.shards.missing(execution.shard.ref) == []
    assert (execution.processed, sorted(execution.starts)) == (
        end - first,
        [batch.start for batch in every],
    )


def check_missing(
    store: TaskStore, execution: Execution, missing: list[tuple[int, int]], first: int, end: int
) -> None:
    stored = ids(list(opened(store, execution.shard.task_id).blocks()))
    assert sorted(positions(missing) + stored) == list(range(first, end))
    assert all(count > 0 for _, count in missing)
    # Ascending, and as few as there can be.
    ends = [start + count for start, count in missing]
    assert all(start > before for before, (start, _) in zip(ends, missing[1:], strict=False))
    assert execution.processed == len(stored)


INTERRUPTIONS = ["cancelled", "failed", "frozen", "given back"]


def interrupt(store: TaskStore, execution: Execution, how: str) -> int:
    """Returns by how much the generation is raised."""
    if how == "given back":
        execution.give_back()
    if how in ("frozen", "given back"):
        return 0
    if how == "cancelled":
        store.shards.cancel(execution.shard.task_id, summary)
    else:
        execution.end(TaskStatus.FAILED)
    store.shards.resume(execution.shard.task_id)
    return 1


def test_missing_ranges_ignore_neighbouring_shards(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    """The neighbouring shards have stored items up to the very border."""
    task_id = sharded([100, 100, 0, 100])
    for number, start in ((0, 99), (3, 200)):
        begin(store, task_id, number).add(result(start, 1))
    refs = [ShardRef(task_id, number, 0) for number in range(4)]
    assert [store.shards.missing(ref) for ref in refs] == [
        [(0, 99)],
        [(100, 100)],
        [],
        [(201, 99)],
    ]
    begin(store, task_id, 1).add(result(100, 1), result(199, 1))
    assert store.shards.missing(refs[1]) == [(101, 98)]
