"""What a shard still misses, whatever was stored of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hotloop.app.names import StrategyName, TaskStatus
from hotloop.app.sources.base import Batch
from hotloop.app.sources.simulated import GeneratedItems
from hotloop.app.strategies.base import BatchResult
from hotloop.app.strategies.batching import batch_count, iter_batches
from hotloop.app.tasks import chunks
from hotloop.app.tasks.model import ShardRef
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import Execution, begin, check_counts, summary
from tests.fixtures.plans import make_plan
from tests.fixtures.results import ids, opened

pytestmark = pytest.mark.long

NewResult = Callable[..., BatchResult]
Sharded = Callable[..., str]


def batches_of(total: int, missing: list[tuple[int, int]], batch_size: int) -> list[Batch]:
    """As a strategy cuts them."""
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
def test_missing_and_stored_are_the_shard_after_any_interruption(
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


def test_missing_is_of_one_shard(store: TaskStore, sharded: Sharded, result: NewResult) -> None:
    """Whatever the neighbours have stored, up to the very border."""
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
