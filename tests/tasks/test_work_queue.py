"""The queue in one process: accepted work is done once, in order, within limits."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update

from hotloop.app.database.engine import writing
from hotloop.app.errors import StoreError
from hotloop.app.names import TaskStatus
from hotloop.app.tasks.claims import claim, count_queued, put_back
from hotloop.app.tasks.model import ShardRef, Task
from hotloop.app.tasks.needs import NOTHING, Abilities
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import tasks
from tests.fixtures.executions import Execution, queued, summary
from tests.fixtures.postgres_server import running_postgres
from tests.fixtures.waiting import wait_until
from tests.tasks.queue_fixtures import Queues, Work, put

NEVER: dict[str, Any] = {"polling_seconds": 3_600.0}
"""Options without polling, so that only notifications find work in time."""


def queue_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("hotloop-queue")]


@pytest.fixture
def work(store: TaskStore) -> Work:
    return Work(store)


def node_of(store: TaskStore, ref: ShardRef) -> str | None:
    return store.shards.of_task(ref.task_id)[ref.shard].node


def test_accepted_work_is_executed_once(queues: Queues, store: TaskStore, work: Work) -> None:
    queue = queues.launch(work, **NEVER)
    (first,) = put(store)
    queue.wake()
    wait_until(lambda: first in work.ended, "the first is done")
    (second,) = put(store)
    queue.wake()
    queue.wake()
    wait_until(lambda: second in work.ended, "the second is done")
    assert work.began == [first, second]
    assert store.status(first.task_id) is TaskStatus.COMPLETED
    assert queued(store) == []


def test_process_that_cannot_execute_leaves_its_work_to_others_until_it_can(
    queues: Queues, store: TaskStore, work: Work
) -> None:
    able, asked, other = threading.Event(), threading.Semaphore(0), Work(store)

    def can_execute() -> bool:
        asked.release()
        return able.is_set()

    queue = queues.launch(work, can_execute=can_execute, **NEVER)
    (first,) = put(store)
    queue.wake()
    assert asked.acquire(timeout=30)
    queues.launch(other, node="there:1")
    wait_until(lambda: first in other.ended, "the other one does it")
    queues.close()
    (second,) = put(store)
    queue.launch()
    for _ in range(3):
        assert asked.acquire(timeout=30)
    shard = store.shards.of_task(second.task_id)[0]
    assert (shard.attempt, shard.node) == (0, None)
    able.set()
    wait_until(lambda: second in work.ended, "it is done here")
    assert first not in work.began


def test_next_work_begins_as_soon_as_one_ends(queues: Queues, store: TaskStore, work: Work) -> None:
    accepted = put(store, 20)
    queues.launch(work, concurrency=1, **NEVER)
    wait_until(lambda: len(work.ended) == 20, "all is done")
    assert work.began == accepted


def test_work_accepted_by_another_process_is_found(
    queues: Queues, store: TaskStore, work: Work
) -> None:
    queues.launch(work)
    accepted = put(store)
    wait_until(lambda: work.ended == accepted, "it is done")


def test_claim_begins_the_execution_and_no_other_node_gets_it(store: TaskStore) -> None:
    (ref,) = put(store)
    claimed = claim(store.engine, "here:1")
    assert claimed is not None
    assert claimed.task.task_id == ref.task_id
    assert claimed.shard == store.shards.of_task(ref.task_id)[0]
    assert (claimed.shard.status, claimed.shard.attempt) == (TaskStatus.RUNNING, 1)
    assert claimed.shard.node == "here:1"
    assert store.status(ref.task_id) is TaskStatus.RUNNING
    assert claim(store.engine, "other:1") is None


def test_waiting_and_held_shards_are_counted(
    store: TaskStore, new_task: Callable[..., Task]
) -> None:
    assert count_queued(store.engine) == {"waiting": 0, "held": 0}
    put(store, 2, shards=3)
    store.create(new_task())  # synchronous
    assert count_queued(store.engine) == {"waiting": 6, "held": 0}
    claimed = claim(store.engine, "here:1")
    assert claimed is not None
    assert count_queued(store.engine) == {"waiting": 5, "held": 1}
    store.shards.cancel(claimed.task.task_id, summary)
    assert count_queued(store.engine) == {"waiting": 3, "held": 0}


def test_synchronous_tasks_are_not_queued(
    store: TaskStore, work: Work, queues: Queues, new_task: Callable[..., Task]
) -> None:
    (ref,) = put(store)
    synchronous = [new_task(), new_task()]
    for task in synchronous:
        store.create(task)
    store.shards.cancel(synchronous[0].task_id, summary)
    store.shards.resume(synchronous[0].task_id)
    queues.launch(work, **NEVER)
    wait_until(lambda: work.ended == [ref], "the other one is done")
    assert claim(store.engine, "here:1") is None
    assert {store.status(task.task_id) for task in synchronous} == {TaskStatus.PENDING}


def test_resumed_work_is_executed_again(queues: Queues, store: TaskStore, work: Work) -> None:
    work.go.clear()
    queue = queues.launch(work, **NEVER)
    (ref,) = put(store)
    queue.wake()
    wait_until(lambda: work.began == [ref], "it has begun")
    store.shards.cancel(ref.task_id, summary)
    (again,) = store.shards.resume(ref.task_id)
    assert again == ShardRef(ref.task_id, 0, 1)
    work.go.set()
    queue.wake()
    wait_until(lambda: work.ended == [again], "it is done once")


def test_shards_of_a_task_begin_in_order_and_before_later_tasks(
    queues: Queues, store: TaskStore, work: Work
) -> None:
    accepted = put(store, 3, shards=4)
    queues.launch(work, concurrency=1)
    wait_until(lambda: len(work.ended) == 12, "all is done")
    assert work.began == accepted


@pytest.mark.long
def test_a_thousand_tasks_are_done_once_each(queues: Queues, store: TaskStore, work: Work) -> None:
    accepted = put(store, 1_000)
    queues.launch(work, concurrency=4, **NEVER)
    wait_until(lambda: len(work.ended) == len(accepted), "all is done", bound=90)
    assert sorted(work.ended) == sorted(work.began) == sorted(accepted)
    assert queued(store) == []


def test_work_that_met_a_fault_is_held_until_the_next_sweep(
    queues: Queues, store: TaskStore, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.error = ValueError("a fault")
    queue = queues.launch(work, concurrency=1)
    first, second = put(store, 2)
    wait_until(lambda: len(work.began) == 2, "both have failed")
    wait_until(lambda: f"the work {second} met a fault" in caplog.text, "it is in the log")
    assert work.began == [first, second]
    assert queued(store) == [first, second]
    work.error = None
    assert sorted(queue.sweep()) == sorted([first, second])
    wait_until(lambda: sorted(work.ended) == sorted([first, second]), "they are done")


def test_sweep_leaves_what_is_executed(queues: Queues, store: TaskStore, work: Work) -> None:
    work.go.clear()
    queue = queues.launch(work)
    put(store, 3)
    wait_until(lambda: len(work.began) == 2, "two have begun")
    lost = claim(store.engine, "here:1")  # as if the answer had been lost
    assert lost is not None
    assert queue.sweep() == [lost.shard.ref]
    work.go.set()
    wait_until(lambda: len(work.ended) == 3, "all is done")


def test_cancelled_work_never_begins(queues: Queues, store: TaskStore, work: Work) -> None:
    work.go.clear()
    queues.launch(work, concurrency=1)
    running, cancelled, last = put(store, 3)
    wait_until(lambda: work.began == [running], "the first has begun")
    store.shards.cancel(cancelled.task_id, summary)
    work.go.set()
    wait_until(lambda: last in work.ended, "the last is done")
    assert work.ended == [running, last]


def test_deleted_tasks_leave_the_queue_empty(store: TaskStore) -> None:
    accepted = put(store, 2, shards=3)
    store.shards.cancel(accepted[0].task_id, summary)
    assert store.delete_finished() == [accepted[0].task_id]
    assert queued(store) == accepted[3:]


def test_process_that_takes_no_work_only_accepts_it(
    queues: Queues, store: TaskStore, work: Work
) -> None:
    queue = queues.launch(work, concurrency=0)
    accepted = put(store)
    queue.wake()
    assert queue_threads() == []
    queue.close()
    queues.launch(work)
    wait_until(lambda: work.ended == accepted, "another one does it")


@pytest.mark.parametrize("node", ["another:2", "here:1"])
def test_work_that_was_handed_over_goes_on_elsewhere(
    queues: Queues, store: TaskStore, work: Work, node: str
) -> None:
    work.go.clear()
    queue = queues.launch(work)
    accepted = put(store, 3)
    wait_until(lambda: len(work.began) == 2, "two have begun")
    queue.take_no_more()
    work.stopping.set()
    queue.close()
    wait_until(lambda: queue_threads() == [], "its threads have ended")
    assert [node_of(store, ref) for ref in accepted] == [None] * 3
    assert len(work.began) == 2
    work.stopping.clear()
    work.go.set()
    queues.launch(work, node, concurrency=1)
    wait_until(lambda: len(work.ended) == 3, "all is done")
    assert work.ended == accepted
    assert len(work.began) == 5


def test_work_that_does_not_stop_is_given_up_and_can_store_nothing(
    queues: Queues, store: TaskStore, work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    work.go.clear()
    queue = queues.launch(work)
    (ref,) = put(store)
    wait_until(lambda: work.began == [ref], "it has begun")
    queue.close()
    assert "1 shards did not stop in time" in caplog.text
    claimed = claim(store.engine, "other:1")
    assert claimed is not None
    work.go.set()
    wait_until(lambda: queue_threads() == [], "its thread has ended")
    assert work.ended == []
    assert Execution(store, claimed.shard).end() is TaskStatus.COMPLETED


def test_adopted_work_begins_at_once(queues: Queues, store: TaskStore, work: Work) -> None:
    (ref,) = put(store)
    assert claim(store.engine, "dead:1") is not None
    queue = queues.launch(work, **NEVER)
    assert queue.adopt("alive:1") == []
    assert queue.adopt("dead:1") == [ref]
    wait_until(lambda: work.ended == [ref], "it is done")
    assert store.shards.of_task(ref.task_id)[0].attempt == 2


def test_put_back_takes_from_one_node_only(store: TaskStore) -> None:
    accepted = put(store, 3, shards=2)
    held = [claim(store.engine, node) for node in ("a:1", "b:1", "a:1")]
    assert all(held)
    assert put_back(store.engine, "a:1", [accepted[0]]) == [accepted[2]]
    assert put_back(store.engine, "a:1") == [accepted[0]]
    assert put_back(store.engine, "a:1") == []
    again = [claim(store.engine, "c:1") for _ in range(2)]
    assert [one and one.shard.ref for one in again] == [accepted[0], accepted[2]]
    assert [one and one.shard.attempt for one in again] == [2, 2]


def test_task_that_cannot_be_executed_fails_and_delays_no_other(
    queues: Queues, store: TaskStore, work: Work
) -> None:
    bad, other, good = put(store, 1, shards=2) + put(store)
    changed = update(tasks).where(tasks.c.task_id == bad.task_id)
    with writing(store.engine) as connection:
        connection.execute(changed.values(result_columns=[["other", "<f8"]]))
    queues.launch(work, **NEVER)
    wait_until(lambda: work.ended == [good], "the good one is done")
    task = store.get(bad.task_id)
    assert (task.status, task.error_code) == (TaskStatus.FAILED, "TaskConflictError")
    assert "its workload's columns have changed" in str(task.error_message)
    assert task.end_time is not None
    assert bad.task_id == other.task_id
    assert [shard.status for shard in store.shards.of_task(bad.task_id)] == ["failed"] * 2
    assert queued(store) == []


def test_queue_can_be_closed_twice_and_launched_again(
    queues: Queues, store: TaskStore, work: Work
) -> None:
    queue = queues.launch(work)
    wait_until(lambda: len(queue_threads()) == 2, "two look for work")
    queue.close()
    queue.close()
    wait_until(lambda: not queue_threads(), "its threads have ended")
    queue.launch()
    accepted = put(store)
    wait_until(lambda: work.ended == accepted, "it is done")


def test_queue_prints_nothing(
    queues: Queues,
    store: TaskStore,
    work: Work,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with caplog.at_level(logging.INFO):
        queue = queues.launch(work)
        put(store, 2)
        wait_until(lambda: len(work.ended) == 2, "both are done")
        queue.close()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_short_outage_of_a_server_is_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_postgres() as server:
        store = open_store(server.url("postgres"))
        work = Work(store)
        queues = Queues(store)
        queue = queues.launch(work)
        accepted = put(store)
        wait_until(lambda: work.ended == accepted, "it is done")
        server.stop()
        for call in (partial(queue.adopt, "other:1"), queue.sweep):
            with pytest.raises(StoreError) as caught:
                call()
            assert str(server.port) not in str(caught.value)
        wait_until(lambda: "no work can be taken" in caplog.text, "it is in the log")
        assert len(queue_threads()) == 2
        queues.close()
        assert "other nodes will adopt them" in caplog.text
        wait_until(lambda: not queue_threads(), "its threads have ended")
        store.close()


def test_api_starts_without_what_the_queue_needs() -> None:
    code = (
        "import sys, hotloop.app.factory, hotloop.app.tasks.work_queue, "
        "hotloop.app.tasks.upkeep; "
        "print(sorted({'psycopg'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_queue_takes_what_its_node_can_do_now(queues: Queues, store: TaskStore, work: Work) -> None:
    """A node that loses an ability leaves such work, and takes it once it can again."""
    asked = threading.Semaphore(0)

    def can_execute() -> bool:
        asked.release()
        return True

    def look() -> None:
        while asked.acquire(blocking=False):
            pass
        for _ in range(3):  # one may have begun before, and each begins after the last has ended
            queue.wake()
            assert asked.acquire(timeout=30)

    options: dict[str, Any] = NEVER | {"concurrency": 1}
    queue = queues.launch(work, can_execute=can_execute, abilities=NOTHING, **options)
    (first,) = put(store)
    look()
    assert work.began == []
    queue.set_abilities(Abilities())
    wait_until(lambda: first in work.ended, "the first is done")
    queue.set_abilities(NOTHING)
    look()  # a claim that had begun before has ended
    (second,) = put(store)
    look()
    assert work.began == [first]
    assert node_of(store, second) is None
