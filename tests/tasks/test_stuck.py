"""tasks.stuck: a shard without progress is taken over, by one node, a bounded number of times."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict

import pytest
from sqlalchemy import update

from hotloop.app.database.engine import writing
from hotloop.app.names import TaskStatus
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks import stuck as stuck_module
from hotloop.app.tasks.claims import Claim, claim, put_back
from hotloop.app.tasks.model import InWork, Shard, ShardRef, Task
from hotloop.app.tasks.needs import Abilities
from hotloop.app.tasks.rows import MAX_BEGINNINGS
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.stuck import LOOK_SECONDS, MOST_BEGINNINGS, StuckShards
from hotloop.app.tasks.tables import shards
from tests.fixtures.executions import Execution, refuses_all
from tests.fixtures.waiting import wait_until
from tests.tasks.queue_fixtures import Queues, Work

NewResult = Callable[..., BatchResult]
Sharded = Callable[..., str]

LEAST = 60.0
HERE, THERE, ELSEWHERE = "here:1", "there:2", "elsewhere:3"


class Watch:
    """A watching node with a clock that only the test moves."""

    def __init__(self, store: TaskStore, node: str = HERE, predicted: float | None = 0.5) -> None:
        self.now = 1_000.0
        self.taken = 0
        self.asked: list[tuple[Task, Shard]] = []
        self.predicted = predicted
        self.able = Abilities()
        self.stuck = StuckShards(
            store.engine, node, LEAST, self._predict, self._count, lambda: self.now
        )

    def _predict(self, task: Task, shard: Shard) -> float | None:
        self.asked.append((task, shard))
        return self.predicted

    def _count(self) -> None:
        self.taken += 1

    def look(self, seconds: float = LOOK_SECONDS, *executed: ShardRef) -> Claim | None:
        """Let the time pass, and look."""
        self.now += seconds
        return self.stuck.take(self.able, executed)

    def idle(self, seconds: float) -> Claim | None:
        """Look every LOOK_SECONDS until a shard is taken over, for so long."""
        for _ in range(round(seconds / LOOK_SECONDS)):
            if (found := self.look()) is not None:
                return found
        return None


@pytest.fixture
def held(store: TaskStore, sharded: Sharded) -> Callable[..., Execution]:
    """Makes a task whose first shard another node executes."""

    def make(*counts: int, node: str = THERE) -> Execution:
        sharded(counts or (50, 50))
        claimed = claim(store.engine, node)
        assert claimed is not None
        return Execution(store, claimed.shard)

    return make


Held = Callable[..., Execution]


def test_shard_without_progress_is_taken_over_and_continues_at_its_first_missing_item(
    store: TaskStore, held: Held, result: NewResult, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = held()
    stuck.add(result(0, 10))
    watch = Watch(store)
    assert watch.idle(LEAST) is None  # the first look only sees where it is
    with caplog.at_level(logging.WARNING):
        taken = watch.look()
    assert taken is not None
    assert (taken.shard.ref, taken.shard.node) == (stuck.shard.ref, HERE)
    assert (taken.shard.attempt, taken.shard.beginnings) == (2, 1)
    assert store.shards.missing(taken.shard.ref) == [(10, 40)]
    assert "is taken over from the node there:2, where it made no progress for 60 s" in caplog.text
    assert watch.taken == 1
    refuses_all(store, stuck, result(10, 10), "it has been taken over by a later execution")
    again = Execution(store, taken.shard)
    again.add(result(10, 40))
    assert again.end() is TaskStatus.RUNNING  # the other shard waits
    assert claim(store.engine, HERE) is not None


def test_stuck_execution_that_ends_first_wins(store: TaskStore, held: Held) -> None:
    stuck, watch = held(50), Watch(store)
    assert watch.idle(LEAST) is None
    stuck.end()
    assert watch.idle(10 * LEAST) is None
    assert watch.taken == 0


def test_slow_shard_that_stores_results_is_never_taken_over(
    store: TaskStore, held: Held, result: NewResult
) -> None:
    slow, watch = held(), Watch(store)
    for start in range(0, 50, 10):
        assert watch.idle(LEAST) is None
        slow.add(result(start, 10))
    assert watch.idle(LEAST) is None


def test_steps_of_items_in_work_are_progress(store: TaskStore, held: Held) -> None:
    slow, watch = held(), Watch(store)
    for passed in range(1, 6):
        assert watch.idle(LEAST) is None
        details = {"in_work": asdict(InWork(slow.shard.attempt, passed))}
        store.shards.add_results(slow.shard.ref, slow.shard.attempt, [], 0, 0, details)
    assert watch.idle(LEAST) is None
    assert watch.look() is not None


def test_long_batches_are_waited_for(store: TaskStore, held: Held) -> None:
    stuck, watch = held(), Watch(store, predicted=10 * LEAST)
    assert watch.idle(20 * LEAST) is None
    assert watch.look() is not None
    assert [(t.task_id, s.ref) for t, s in watch.asked] == [(stuck.shard.task_id, stuck.shard.ref)]


def test_shard_that_this_node_cannot_predict_is_left_alone(store: TaskStore, held: Held) -> None:
    held()
    assert Watch(store, predicted=None).idle(20 * LEAST) is None


def test_each_take_over_waits_twice_as_long_and_their_number_is_bounded(
    store: TaskStore, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 1 < MOST_BEGINNINGS < MAX_BEGINNINGS  # being taken over alone fails no task
    most = 4
    monkeypatch.setattr(stuck_module, "MOST_BEGINNINGS", most)
    held()
    watches = [Watch(store, HERE), Watch(store, ELSEWHERE)]
    begun, waited = 1, list[float]()
    while begun < 100:
        found, seconds = None, 0.0
        while found is None and seconds < LEAST * 2 ** (most + 2):
            seconds += LEAST / 2
            found = next(filter(None, [watch.look(LEAST / 2) for watch in watches]), None)
        if found is None:
            break
        begun += 1
        assert found.shard.beginnings == begun
        waited.append(seconds)
    assert len(waited) == most
    for number, seconds in enumerate(waited):  # a first look only sees where it is
        assert 0 <= seconds - LEAST * 2**number <= LEAST / 2


def test_progress_makes_take_overs_start_anew(
    store: TaskStore, held: Held, result: NewResult
) -> None:
    held()
    watches = Watch(store, HERE), Watch(store, ELSEWHERE)
    for start in range(0, 50, 10):
        taken = watches[start // 10 % 2].idle(3 * LEAST)
        assert taken is not None
        Execution(store, taken.shard).add(result(start, 10))


def test_node_takes_nothing_from_itself(store: TaskStore, held: Held) -> None:
    held(node=HERE)
    assert Watch(store, HERE).idle(20 * LEAST) is None


def test_shard_that_this_node_still_executes_is_left_to_others(
    store: TaskStore, held: Held
) -> None:
    stuck, watch = held(), Watch(store)
    for _ in range(50):
        assert watch.look(LOOK_SECONDS, stuck.shard.ref) is None
    assert watch.look() is not None


@pytest.mark.parametrize(
    "able", [Abilities(frozenset({"kind:run"})), Abilities(None, run_bytes=999)]
)
def test_node_takes_over_only_what_it_can_execute(
    store: TaskStore, held: Held, able: Abilities
) -> None:
    stuck, watch = held(), Watch(store)
    with writing(store.engine) as connection:
        mine = shards.c.task_id == stuck.shard.task_id
        connection.execute(update(shards).where(mine).values(needs_bytes=1_000))
    watch.able = able
    assert watch.idle(20 * LEAST) is None
    watch.able = Abilities()
    assert watch.idle(2 * LEAST) is not None


def test_two_watching_nodes_do_not_both_take_it(store: TaskStore, held: Held) -> None:
    held()
    one, other = Watch(store, HERE), Watch(store, ELSEWHERE)
    for watch in (one, other):
        assert watch.idle(LEAST) is None
    assert one.look() is not None
    assert other.look() is None


@pytest.mark.parametrize("change", ["progress", "put back", "cancelled", "deleted"])
def test_change_at_the_last_moment_is_noticed(
    store: TaskStore, held: Held, result: NewResult, change: str
) -> None:
    """The prediction is the last thing that is asked before the shard is taken over."""
    stuck, watch = held(), Watch(store)
    task_id = stuck.shard.task_id

    def predict(*_: object) -> float:
        if change == "progress":
            stuck.add(result(0, 10))
        elif change == "put back":
            assert put_back(store.engine, THERE) == [stuck.shard.ref]
        else:
            store.shards.cancel(task_id, lambda _: {})
            if change == "deleted":
                store.delete(task_id)
        return 0.0

    watch.stuck._predict = predict
    assert watch.idle(2 * LEAST) is None
    assert watch.taken == 0


def test_time_that_the_watching_node_was_frozen_hardly_counts(
    store: TaskStore, held: Held, result: NewResult
) -> None:
    """Others may have been frozen with it, as after a machine's sleep."""
    slow, watch = held(), Watch(store)
    assert watch.look() is None
    assert watch.look(100 * LEAST) is None
    slow.add(result(0, 10))
    assert watch.idle(LEAST) is None
    assert watch.look() is not None


def test_looks_are_seldom(store: TaskStore, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    held()
    looks: list[float] = []
    watch = Watch(store)
    monkeypatch.setattr(watch.stuck, "_look", lambda *_: looks.append(watch.now))
    for _ in range(100):
        watch.look(0.25)
    assert looks == [1_005.0, 1_010.0, 1_015.0, 1_020.0, 1_025.0]


def test_queue_takes_waiting_shards_first(
    store: TaskStore, held: Held, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stuck_module, "LOOK_SECONDS", 0.0)
    stuck = held(10, 10)
    watch, work = Watch(store), Work(store)
    assert watch.idle(LEAST) is None
    watch.now += LEAST
    queues.launch(work, HERE, concurrency=1, stuck=watch.stuck)
    wait_until(lambda: len(work.ended) == 2, "both are done")
    assert work.ended == [ShardRef(stuck.shard.task_id, number, 0) for number in (1, 0)]
    assert store.status(stuck.shard.task_id) is TaskStatus.COMPLETED
