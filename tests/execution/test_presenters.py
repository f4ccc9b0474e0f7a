"""Results of tasks as clients see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from hotloop.app.database.engine import writing
from hotloop.app.execution.presenters import (
    NOBODY,
    Living,
    run_result,
    task_summaries,
    task_summary,
    task_view,
)
from hotloop.app.names import StrategyName, TaskStatus, TaskType
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.schemas.results import RunFlag, RunResult
from hotloop.app.tasks.model import Shard, Task, new_task_id, utc_now
from hotloop.app.tasks.needs import A_NODE, A_RUN_HOST, NOTHING, Abilities
from hotloop.app.tasks.nodes import NodeStore
from hotloop.app.tasks.store import TaskStore, open_store
from hotloop.app.tasks.tables import shards, tasks
from hotloop.app.wiring import BODIES


def result(
    strategy: StrategyName = StrategyName.THREADING,
    *,
    asked: int | str = "auto",
    items: int = 1_000,
    workers: int = 4,
    needs: dict[str, Any] | None = None,
    certificate: str | None = None,
    **measured: Any,
) -> RunResult:
    task = Task(
        task_id=new_task_id(),
        task_type=TaskType.SYNCHRONOUS,
        status=TaskStatus.COMPLETED,
        spec={"workers": workers, "batch_size": asked, "needs": needs or {}},
        workload="loops",
        kernel="cython",
        strategy=strategy,
        total_items=items,
        items_processed=items,
        created_at=utc_now(),
        owner="node",
        measurements=Measurements(**measured).to_json() if measured else None,
    )
    details = Measurements(**measured).to_json() if measured else None
    shard = Shard(task_id=task.task_id, shard=0, start=0, count=items, details=details)
    return run_result(task, [shard], [], certificate)


def test_result_says_what_batch_size_was_asked_for_and_used() -> None:
    chosen = result(batch_size=7)
    assert (chosen.requested_batch_size, chosen.batch_size) == ("auto", 7)
    given = result(asked=500, batch_size=500)
    assert (given.requested_batch_size, given.batch_size) == (500, 500)


def test_result_names_the_version_of_a_users_code() -> None:
    assert result().workload_version is None
    assert result(needs={"workload_version": "3f9c2e8b01da"}).workload_version == "3f9c2e8b01da"


def test_result_of_a_kernel_that_failed_its_check_says_so() -> None:
    failed = result(certificate="failed")
    assert failed.certificate == "failed"
    assert failed.flags == [RunFlag.FAILED_CHECK]
    assert "the kernel cython has failed its check" in failed.cautions[0].text
    passed = result(certificate="2e72dcb7d7e3c0f9")
    assert passed.certificate == "2e72dcb7d7e3c0f9"
    assert passed.flags == []
    assert result().certificate is None


def test_run_that_never_began_has_only_the_size_that_was_asked_for() -> None:
    assert result().batch_size is None
    assert result(asked=5_000).batch_size == 5_000


def test_results_stored_before_sizes_were_chosen_keep_theirs() -> None:
    assert result(asked=5_000, duration_seconds=1.0).batch_size == 5_000


def test_throughput_is_given_with_and_without_set_up() -> None:
    found = result(duration_seconds=4.0, setup_seconds=6.0)
    assert found.throughput_items_per_second == 250
    assert found.throughput_with_setup_items_per_second == 100


@pytest.mark.parametrize(
    ("strategy", "asked", "effective", "flagged"),
    [
        (StrategyName.THREADING, 5_000, 1, True),
        (StrategyName.MULTIPROCESSING, 500, 2, True),
        # Two usable CPUs and not the batches are why only two of four workers worked.
        (StrategyName.MULTIPROCESSING, 100, 2, False),
        (StrategyName.THREADING, 250, 4, False),
        (StrategyName.THREADING, "auto", 2, False),
        (StrategyName.SEQUENTIAL, 5_000, 1, False),
    ],
)
def test_batch_size_that_leaves_workers_idle_is_flagged(
    strategy: StrategyName, asked: int | str, effective: int, flagged: bool
) -> None:
    found = result(strategy, asked=asked, effective_workers=effective)
    assert found.flags == ([RunFlag.IDLE_WORKERS] if flagged else [])
    assert [caution.name for caution in found.cautions] == found.flags


@pytest.mark.parametrize(
    ("items", "batch_size", "workers", "words"),
    [
        (1_000, 5_000, 4, "makes 1 batch for 4 workers; leave it out, or take at most 250"),
        (1_000, 400, 4, "makes 3 batches for 4 workers; leave it out, or take at most 250"),
        (3, 2, 8, "makes 2 batches for 8 workers; 3 items keep at most 3 workers busy"),
    ],
)
def test_caution_about_idle_workers_suggests_a_batch_size(
    items: int, batch_size: int, workers: int, words: str
) -> None:
    worked = -(-items // batch_size)
    found = result(asked=batch_size, items=items, workers=workers, effective_workers=worked)
    assert [caution.text for caution in found.cautions] == [f"batch size {batch_size:,} {words}"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def kept(store: TaskStore, status: TaskStatus = TaskStatus.PENDING, **values: Any) -> str:
    """A background task that is stored with `values` in its row."""
    task = Task(
        task_id=new_task_id(),
        task_type=TaskType.BACKGROUND,
        spec={"workers": 2, "batch_size": "auto", "db": "none", "cache": "none"},
        workload="loops",
        kernel="python",
        strategy="sequential",
        total_items=10,
        created_at=utc_now(),
        owner="node",
    )
    store.create(task)
    row = tasks.c.task_id == task.task_id
    with writing(store.engine) as connection:
        connection.execute(update(tasks).where(row).values(status=status, **values))
    return task.task_id


STRANGE: list[dict[str, Any]] = [
    {"strategy": "newer"},
    {"kernel": "newer"},
    {"workload": "newer"},
    {"kind": "newer"},
    {"task_type": "newer"},
    {"spec": {}},
    {"spec": {"workers": "many", "batch_size": -1, "db": 7}},
    {"measurements": {"stages": [{}]}},
    {"items_processed": 11},
    {"kind": "comparison"},
]


@pytest.mark.parametrize("status", [TaskStatus.PENDING, TaskStatus.FAILED])
@pytest.mark.parametrize("strange", STRANGE, ids=str)
def test_task_of_an_unknown_kind_is_listed(
    store: TaskStore, strange: dict[str, Any], status: TaskStatus
) -> None:
    odd, plain = kept(store, status, **strange), kept(store)
    listed = {task.task_id: task for task in task_summaries(store, BODIES, store.page(limit=9))}
    assert set(listed) == {odd, plain}
    shown = task_view(store, BODIES, odd)
    assert shown.status is status
    assert {name: getattr(shown, name) for name in type(listed[odd]).model_fields} == dict(
        listed[odd]
    )


@pytest.mark.parametrize(
    "details",
    [{"comparison": {"newer": 1}}, {"in_work": {"newer": 1}}, {"duration_seconds": "long"}, [], 7],
    ids=str,
)
def test_measurements_that_cannot_be_read_are_left_out(store: TaskStore, details: object) -> None:
    for status in (TaskStatus.RUNNING, TaskStatus.FAILED):
        task_id = kept(store, status, kind="comparison")
        row = shards.c.task_id == task_id
        with writing(store.engine) as connection:
            connection.execute(update(shards).where(row).values(details=details, status=status))
        assert task_view(store, BODIES, task_id).comparison is None
        assert store.progress([task_id])[task_id][0] is status
    assert len(task_summaries(store, BODIES, store.page(limit=9))) == 2


def test_view_says_what_a_task_waits_for(store: TaskStore) -> None:
    task_id = kept(store)
    node = NodeStore(store.engine, "node:1", "test")
    node.beat()
    assert task_view(store, BODIES, task_id).waiting_for == A_RUN_HOST
    node.publish(Abilities(frozenset({"kind:run"}), 0))
    waiting_for = str(task_view(store, BODIES, task_id).waiting_for)
    assert waiting_for.startswith("a node with the cache source none, ")
    node.publish(NOTHING)
    assert task_view(store, BODIES, task_id).waiting_for == A_NODE
    store.shards.cancel(task_id, lambda _: {})
    assert task_view(store, BODIES, task_id).waiting_for is None


QUEUED, RUNNING = TaskStatus.PENDING, TaskStatus.RUNNING
ALL = Abilities()


def waiting_for(
    shards: list[tuple[TaskStatus, str | None]],
    living: Living,
    status: TaskStatus = RUNNING,
    task_type: TaskType = TaskType.BACKGROUND,
) -> str | None:
    task = Task(
        task_id=new_task_id(),
        task_type=task_type,
        status=status,
        spec={"workers": 1, "batch_size": 5, "db": "none", "cache": "none"},
        workload="loops",
        kernel="cython",
        strategy="sequential",
        total_items=len(shards),
        created_at=utc_now(),
        owner="node",
    )
    made = [
        Shard(task_id=task.task_id, shard=n, start=n, count=1, status=state, node=node)
        for n, (state, node) in enumerate(shards)
    ]
    return task_summary(task, made, BODIES, living).waiting_for


@pytest.mark.parametrize(
    ("shards", "living", "expected"),
    [
        ([(QUEUED, None)], {"a": None}, A_RUN_HOST),
        ([(QUEUED, None)], {"a": None, "b": ALL}, None),  # the other one takes it
        ([(QUEUED, None)], {"a": NOTHING, "b": None}, A_RUN_HOST),
        ([(QUEUED, None)], {"a": NOTHING}, A_NODE),
        ([(QUEUED, None)], NOBODY, None),
        ([(RUNNING, "a")], {"a": None, "b": ALL}, A_RUN_HOST),
        ([(RUNNING, "a"), (QUEUED, None)], {"a": ALL, "b": None}, None),
        ([(TaskStatus.COMPLETED, "b"), (RUNNING, "a")], {"a": None}, A_RUN_HOST),
        ([], {"a": None}, None),  # its items are still coming in
    ],
)
def test_task_living_for_what_all_wait_for_who_could_execute_it(
    shards: list[tuple[TaskStatus, str | None]], living: Living, expected: str | None
) -> None:
    assert waiting_for(shards, living) == expected


def test_only_a_background_task_that_has_not_ended_living() -> None:
    living = {"a": None}
    assert waiting_for([(QUEUED, None)], living, task_type=TaskType.SYNCHRONOUS) is None
    assert waiting_for([(TaskStatus.FAILED, "a")], living, TaskStatus.FAILED) is None
