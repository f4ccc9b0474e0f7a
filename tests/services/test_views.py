"""Results of tasks as clients see them."""

from __future__ import annotations

from typing import Any

import pytest

from app.names import StrategyName, TaskStatus, TaskType
from app.schemas.results import RunFlag, RunResult
from app.services.details import Details
from app.services.views import NO_WAITS, Waits, run_result, task_summary
from app.tasks.model import Shard, Task, new_task_id, utc_now
from app.tasks.nodes import A_NODE, A_RUN_HOST


def result(
    strategy: StrategyName = StrategyName.THREADING,
    *,
    asked: int | str = "auto",
    items: int = 1_000,
    workers: int = 4,
    **measured: Any,
) -> RunResult:
    task = Task(
        task_id=new_task_id(),
        task_type=TaskType.SYNCHRONOUS,
        status=TaskStatus.COMPLETED,
        spec={"workers": workers, "batch_size": asked},
        workload="loops",
        kernel="cython",
        strategy=strategy,
        total_items=items,
        items_processed=items,
        created_at=utc_now(),
        owner="node",
        measurements=Details(**measured).to_json() if measured else None,
    )
    details = Details(**measured).to_json() if measured else None
    shard = Shard(task_id=task.task_id, shard=0, start=0, count=items, details=details)
    return run_result(task, [shard], [])


def test_result_says_what_batch_size_was_asked_for_and_used() -> None:
    chosen = result(batch_size=7)
    assert (chosen.requested_batch_size, chosen.batch_size) == ("auto", 7)
    given = result(asked=500, batch_size=500)
    assert (given.requested_batch_size, given.batch_size) == (500, 500)


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


QUEUED, RUNNING = TaskStatus.PENDING, TaskStatus.RUNNING


def waiting_for(
    shards: list[tuple[TaskStatus, str | None]],
    waits: Waits,
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
    return task_summary(task, made, waits).waiting_for


@pytest.mark.parametrize(
    ("shards", "waits", "expected"),
    [
        ([(QUEUED, None)], {"a": A_RUN_HOST}, A_RUN_HOST),
        ([(QUEUED, None)], {"a": A_RUN_HOST, "b": None}, None),  # the other one takes it
        ([(QUEUED, None)], {"a": A_NODE, "b": A_RUN_HOST}, A_RUN_HOST),
        ([(QUEUED, None)], {"a": A_NODE}, A_NODE),
        ([(QUEUED, None)], NO_WAITS, None),
        ([(RUNNING, "a")], {"a": A_RUN_HOST, "b": None}, A_RUN_HOST),
        ([(RUNNING, "a"), (QUEUED, None)], {"a": None, "b": A_RUN_HOST}, None),
        ([(TaskStatus.COMPLETED, "b"), (RUNNING, "a")], {"a": A_RUN_HOST}, A_RUN_HOST),
        ([], {"a": A_RUN_HOST}, None),  # its items are still coming in
    ],
)
def test_task_waits_for_what_all_wait_for_who_could_execute_it(
    shards: list[tuple[TaskStatus, str | None]], waits: Waits, expected: str | None
) -> None:
    assert waiting_for(shards, waits) == expected


def test_only_a_background_task_that_has_not_ended_waits() -> None:
    waits = {"a": A_RUN_HOST}
    assert waiting_for([(QUEUED, None)], waits, task_type=TaskType.SYNCHRONOUS) is None
    assert waiting_for([(TaskStatus.FAILED, "a")], waits, TaskStatus.FAILED) is None
