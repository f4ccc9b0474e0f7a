"""tasks.shards: everything that an execution writes is refused once it is not the current one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hotloop.app.errors import TaskConflictError
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.model import FINISHED, ShardRef
from hotloop.app.tasks.store import TaskStore
from tests.fixtures.executions import Execution, begin, refuses_all

NewResult = Callable[..., BatchResult]
Sharded = Callable[..., str]

TAKEN_OVER = "it has been taken over by a later execution"


def test_earlier_attempt_can_store_nothing(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([50, 50])
    attempts = [begin(store, task_id) for _ in range(3)]
    assert [one.shard.attempt for one in attempts] == [1, 2, 3]
    for earlier in attempts[:-1]:
        refuses_all(store, earlier, result(0, 10), TAKEN_OVER)
    assert attempts[-1].is_current()
    attempts[-1].add(result(0, 10))
    refuses_all(store, attempts[0], result(10, 10), TAKEN_OVER)


def test_attempt_that_never_began_can_store_nothing(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([50, 50])
    execution = begin(store, task_id, 1)
    later = Execution(store, replace(execution.shard, attempt=2))
    refuses_all(store, later, result(50, 10), TAKEN_OVER)
    idle = Execution(store, store.shards.of_task(task_id)[0])
    refuses_all(store, idle, result(0, 10), "it is pending; results need a running task")


def test_earlier_generation_can_store_nothing(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    """Even one with the number of the attempt that runs now."""
    task_id = sharded([50, 50])
    first = begin(store, task_id)
    first.end(TaskStatus.FAILED)
    (ref, _) = store.shards.resume(task_id)
    void = [first, Execution(store, replace(first.shard, attempt=2))]
    for execution in void:
        refuses_all(store, execution, result(0, 10), TAKEN_OVER)
    second = begin(store, task_id, generation=1)
    assert (second.shard.ref, second.shard.attempt) == (ref, 2)
    for execution in void:
        refuses_all(store, execution, result(0, 10), TAKEN_OVER)
    for call in (
        lambda: begin(store, task_id, generation=0),
        lambda: begin(store, task_id, generation=2),
        lambda: store.shards.missing(ShardRef(task_id, 0, 0)),
    ):
        with pytest.raises(TaskConflictError, match=TAKEN_OVER):
            call()
    assert second.is_current()
    second.add(result(0, 10))


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_execution_that_has_ended_can_store_nothing(
    store: TaskStore, sharded: Sharded, result: NewResult, status: TaskStatus
) -> None:
    execution = begin(store, sharded([50, 50]))
    execution.add(result(0, 10))
    execution.end(status)
    refuses_all(store, execution, result(10, 10), f"it is {status}; results need a running task")


def test_shard_stores_its_own_items_only(
    store: TaskStore, sharded: Sharded, result: NewResult
) -> None:
    task_id = sharded([50, 50, 50])
    execution = begin(store, task_id, 1)
    for start, count in ((0, 10), (40, 11), (95, 6), (100, 50), (45, 60)):
        with pytest.raises(ValueError, match="of 50 from 50 on"):
            execution.add(result(start, count))
    assert execution.shard == store.shards.of_task(task_id)[1]
    execution.add(result(50, 50))
    assert [len(store.shards.missing(ShardRef(task_id, n, 0))) for n in range(3)] == [1, 0, 1]
