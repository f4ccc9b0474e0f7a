"""Results of tasks as clients see them."""

from __future__ import annotations

from typing import Any

import pytest

from app.names import StrategyName, TaskStatus, TaskType
from app.schemas.results import RunFlag, RunResult
from app.services.details import Details
from app.services.views import run_result
from app.tasks.model import Shard, Task, new_task_id, utc_now


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
