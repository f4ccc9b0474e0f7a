"""Small tasks in both databases: accepted in groups, claimed together, each ended by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hotloop.app.errors import ClientLimitError, ServiceError, TaskConflictError
from hotloop.app.names import TaskStatus, TaskType
from hotloop.app.strategies.base import BatchResult
from hotloop.app.tasks.chunks import pack_all
from hotloop.app.tasks.claims import Claim, claim_some
from hotloop.app.tasks.model import Task, new_task_id, utc_now
from hotloop.app.tasks.needs import Abilities, needs_of
from hotloop.app.tasks.small import Ended, Member, NewTask, SmallClaims, SmallKey, SmallTasks
from hotloop.app.tasks.store import TaskStore
from hotloop.app.tasks.webhooks import WebhookStore
from tests.fixtures.executions import summary
from tests.fixtures.results import COLUMNS, ids, opened

NewTasks = Callable[..., Task]
NewResult = Callable[..., BatchResult]
NODE = "here:1"


def fits(task: Task, count: int, seconds: float) -> None:
    """The check that accepts every task."""


def key_of(parameters: dict[str, Any]) -> SmallKey:
    needs = needs_of("run", "loops", "python", "sequential", {})
    return SmallKey.of("loops", "python", parameters, needs, {})


def new(new_task: NewTasks, number: int = 1, data: bytes | None = b"items", **spec: Any) -> NewTask:
    task = replace(
        new_task(),
        task_id=new_task_id(),
        task_type=TaskType.BACKGROUND,
        kernel="python",
        strategy="sequential",
        total_items=3,
        created_at=utc_now(),
        item_bytes=25,
        stored_bytes=100,
        spec={"workload": "loops", **spec},
    )
    return NewTask(task, key_of({"cpu_iterations": number}), data)


def claimed(store: TaskStore, most: int = 256, **options: Any) -> Claim | SmallClaims | None:
    asked = {"in_all": None, "abilities": None} | options
    return claim_some(store.engine, NODE, asked["in_all"], asked["abilities"], most)


def some(store: TaskStore, most: int = 256, **options: Any) -> list[Member]:
    found = claimed(store, most, **options)
    assert isinstance(found, SmallClaims)
    return list(found.members)


def ended(member: Member, result: NewResult) -> Ended:
    of = result(0, 3, failed=(1,))
    chunk = pack_all(of.item_ids, of.columns, of.failed, COLUMNS)
    return Ended(member, utc_now(), chunk, {"checksum": "0", "errors": []}, 25)


def test_group_is_accepted_claimed_and_ended(
    store: TaskStore, new_task: NewTasks, result: NewResult
) -> None:
    small = SmallTasks(store.engine)
    group = [new(new_task) for _ in range(70)]
    assert small.accept(group, fits) == [None] * 70
    assert store.unfinished(None)[0] == 70
    first, (shard,) = store.with_shards(group[0].task.task_id)
    assert first == group[0].task
    assert (shard.status, shard.small) == (TaskStatus.PENDING, group[0].small.key)
    members = some(store)
    assert [m.task_id for m in members] == [each.task.task_id for each in group]
    assert {m.data for m in members} == {b"items"}
    running, (shard,) = store.with_shards(group[5].task.task_id)
    assert (running.status, running.owner, shard.node) == (TaskStatus.RUNNING, NODE, NODE)
    assert running.start_time is not None
    small.end([ended(member, result) for member in members])
    for each in group:
        task, (shard,) = store.with_shards(each.task.task_id)
        assert (task.status, shard.status) == (TaskStatus.COMPLETED, TaskStatus.COMPLETED)
        assert (task.items_processed, task.failed_items, task.stored_bytes) == (3, 1, 80)
        assert task.end_time is not None
        assert task.measurements == shard.details == {"checksum": "0", "errors": []}
        (block,) = opened(store, task.task_id).blocks()
        assert ids([block]) == [0, 1, 2]
    assert claimed(store) is None


def test_only_tasks_of_one_kind_are_claimed_together(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)
    kinds = [1, 2, 1, 1, 2]
    group = [new(new_task, kind) for kind in kinds]
    assert small.accept(group, fits) == [None] * 5
    names = [each.task.task_id for each in group]
    assert [m.task_id for m in some(store, 2)] == [names[0], names[2]]
    assert [m.task_id for m in some(store)] == [names[1], names[4]]
    assert [m.task_id for m in some(store)] == [names[3]]


def test_priority_comes_before_the_time_of_acceptance(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)
    late = new(new_task, 2, priority=7)
    assert small.accept([new(new_task, 1, priority=-3), new(new_task, 1), late], fits) == [None] * 3
    large = replace(
        new_task(), task_type=TaskType.BACKGROUND, created_at=utc_now(), spec={"priority": 3}
    )
    store.create(large)
    assert [m.task_id for m in some(store)] == [late.task.task_id]
    found = claimed(store)
    assert isinstance(found, Claim)
    assert found.task.task_id == large.task_id
    assert len(some(store)) == 2


def test_task_that_has_begun_before_is_claimed_alone(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)
    assert small.accept([new(new_task), new(new_task)], fits) == [None, None]
    first, second = some(store)
    store.shards.give_back(first.ref, 1, {}, 0, None)
    found = claimed(store)
    assert isinstance(found, Claim)
    assert (found.shard.ref, found.shard.attempt) == (first.ref, 2)
    assert claimed(store) is None
    assert second.ref.task_id


def test_end_of_a_task_that_was_cancelled_or_taken_over_changes_nothing(
    store: TaskStore, new_task: NewTasks, result: NewResult
) -> None:
    small = SmallTasks(store.engine)
    assert small.accept([new(new_task) for _ in range(3)], fits) == [None] * 3
    cancelled, taken_over, fine = some(store)
    store.shards.cancel(cancelled.task_id, summary)
    store.shards.give_back(taken_over.ref, 1, {}, 0, None)
    again = claimed(store)
    assert isinstance(again, Claim)
    small.end([ended(member, result) for member in (cancelled, taken_over, fine)])
    assert store.status(cancelled.task_id) is TaskStatus.CANCELLED
    assert store.status(taken_over.task_id) is TaskStatus.RUNNING
    assert store.status(fine.task_id) is TaskStatus.COMPLETED
    for member in (cancelled, taken_over):
        assert list(opened(store, member.task_id).blocks()) == []


def test_refused_task_leaves_its_neighbours_alone(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)
    group = [new(new_task) for _ in range(4)]
    group[2] = replace(group[2], task=replace(group[2].task, task_id=group[0].task.task_id))

    def check(task: Task, count: int, seconds: float) -> None:
        if task is group[1].task:
            raise ClientLimitError(f"{count} are enough", 1)

    reasons = small.accept(group[:2], check)
    assert [type(reason) for reason in reasons] == [type(None), ClientLimitError]
    assert str(reasons[1]) == "1 are enough"
    reasons = small.accept(group[2:], fits)
    assert [type(reason) for reason in reasons] == [TaskConflictError, type(None)]
    assert store.unfinished(None)[0] == 2


def test_key_of_a_request_belongs_to_one_task(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)

    def keyed(client: str | None) -> NewTask:
        made = new(new_task)
        return replace(made, task=replace(made.task, idempotency_key="k", client=client))

    first, second = small.accept([keyed(None), keyed("key:a")], fits)
    assert (first, second) == (None, None)
    again = small.accept([keyed("key:a"), new(new_task), keyed(None)], fits)
    assert [isinstance(reason, ServiceError) for reason in again] == [True, False, True]


def test_limit_of_all_nodes_bounds_a_claim(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)
    small.accept([new(new_task) for _ in range(5)], fits)
    assert len(some(store, in_all=3)) == 3
    assert claimed(store, in_all=3) is None
    assert len(some(store, in_all=5)) == 2


def test_node_without_the_abilities_leaves_them(store: TaskStore, new_task: NewTasks) -> None:
    SmallTasks(store.engine).accept([new(new_task)], fits)
    unable = Abilities(frozenset({"kind:run", "workload:loops"}))
    assert claimed(store, abilities=unable) is None


def test_nodes_that_claim_at_once_share_the_tasks(store: TaskStore, new_task: NewTasks) -> None:
    small = SmallTasks(store.engine)
    small.accept([new(new_task) for _ in range(64)], fits)
    found: list[str] = []
    together = threading.Barrier(4)

    def claim(number: int) -> None:
        together.wait()
        for _ in range(20):
            got = claim_some(store.engine, f"node:{number}", None, None, 5)
            if isinstance(got, SmallClaims):
                found.extend(member.task_id for member in got.members)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while isinstance(got := claimed(store), SmallClaims):
        found.extend(member.task_id for member in got.members)
    assert len(found) == len(set(found)) == 64


def test_generated_items_have_no_input(store: TaskStore, new_task: NewTasks) -> None:
    assert SmallTasks(store.engine).accept([new(new_task, data=None)], fits) == [None]
    (member,) = some(store)
    assert (member.data, member.total_items) == (None, 3)


def test_input_stays_for_items_that_failed(
    store: TaskStore, new_task: NewTasks, result: NewResult, tmp_path: Any
) -> None:
    small = SmallTasks(store.engine)
    small.accept([new(new_task), new(new_task)], fits)
    with_failed, without = some(store)
    good = result(0, 3)
    chunk = pack_all(good.item_ids, good.columns, good.failed, COLUMNS)
    small.end([ended(with_failed, result), ended(without, result)._replace(chunk=chunk)])
    path = tmp_path / "input"
    assert store.inputs.fetch(with_failed.task_id, path, None)
    assert not store.inputs.fetch(without.task_id, path, None)
    assert np.frombuffer(path.read_bytes(), dtype="S5")[0] == b"items"


def test_webhook_is_due_once_its_task_has_ended(
    store: TaskStore, new_task: NewTasks, result: NewResult
) -> None:
    small, hooks = SmallTasks(store.engine), WebhookStore(store.engine)
    told = new(new_task, webhook="https://example.com/done")
    small.accept([told, new(new_task)], fits)
    assert hooks.due(10) == []
    small.end([ended(member, result) for member in some(store)])
    (due,) = hooks.due(10)
    assert (due.task.task_id, due.number, due.attempts) == (told.task.task_id, 0, 0)
