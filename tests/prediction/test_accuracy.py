"""Finished runs against their predictions: which count, and the interval that follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hotloop.app.names import StrategyName, TaskKind, TaskStatus
from hotloop.app.prediction.accuracy import SAMPLED, UNCALIBRATED, Errors, read_errors
from hotloop.app.schemas.recommendation import PredictionRecord
from hotloop.app.tasks.model import ShardRef, Task
from hotloop.app.tasks.store import TaskStore, open_store

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TaskStore]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def task(number: int, **fields: Any) -> Task:
    made = Task(
        task_id=f"task_{number:08x}_1700000000",
        task_type="synchronous",
        spec={"workers": 1, "batch_size": 1},
        workload="loops",
        kernel="cython",
        strategy="hybrid",
        total_items=10,
        created_at=START + timedelta(seconds=number),
        owner="me",
        estimated_seconds=2.0,
    )
    return replace(made, **fields)


def run(
    store: TaskStore,
    made: Task,
    seconds: float,
    status: TaskStatus = TaskStatus.COMPLETED,
    attempts: int = 1,
) -> None:
    store.create(made)
    ref = ShardRef(made.task_id, 0, 0)
    for _ in range(attempts):
        shard = store.shards.begin(ref, "me")
    details = {"duration_seconds": seconds}
    store.shards.end(ref, shard.attempt, status, details, 0, lambda shards: {})


def test_only_estimated_runs_of_one_attempt_count(store: TaskStore) -> None:
    run(store, task(1), 4.0)
    run(store, task(2, estimated_seconds=None), 4.0)
    run(store, task(3, kind=TaskKind.COMPARISON, kernel="", strategy=""), 4.0)
    run(store, task(4), 4.0, TaskStatus.FAILED)
    run(store, task(5), 4.0, attempts=2)
    store.create(task(6))
    run(store, task(7, estimated_seconds=3.0), 3.0)
    records = read_errors(store).records
    assert [record.task_id for record in records] == [task(7).task_id, task(1).task_id]
    assert [(r.predicted_seconds, r.measured_seconds, r.ratio) for r in records] == [
        (3.0, 3.0, 1.0),
        (2.0, 4.0, 0.5),
    ]


def test_only_the_newest_runs_are_read(store: TaskStore) -> None:
    for number in range(5):
        run(store, task(number), 1.0)
    found = read_errors(store, 3).records
    assert [record.task_id for record in found] == [task(n).task_id for n in (4, 3, 2)]


def test_estimate_made_after_acceptance_is_kept(store: TaskStore) -> None:
    store.create(task(1, estimated_seconds=None))
    store.estimate(task(1).task_id, 7.5)
    assert store.get(task(1).task_id).estimated_seconds == 7.5


def errors(*ratios: float) -> Errors:
    return Errors(
        tuple(
            PredictionRecord(
                task_id=task(number).task_id,
                strategy=StrategyName.HYBRID,
                kernel="cython",
                predicted_seconds=ratio,
                measured_seconds=1.0,
                ratio=ratio,
            )
            for number, ratio in enumerate(ratios)
        )
    )


def test_interval_of_few_runs_reaches_a_quarter_to_both_sides() -> None:
    for known in (errors(), errors(1.0, 1.01)):
        interval = known.interval(4.0)
        assert (interval.low, interval.high) == (3.0, 5.0)
    wide = errors(0.5).interval(4.0)
    assert (wide.low, wide.high) == (3.0, 8.0)


def test_interval_of_many_runs_follows_from_their_errors() -> None:
    interval = errors(*[1.0] * 20).interval(4.0)
    assert (interval.low, interval.high) == (4.0, 4.0)
    # predicted twice what was measured: the truth lies below
    interval = errors(*[2.0] * 20).interval(4.0)
    assert (interval.low, interval.high) == (2.0, 4.0)


def test_view_has_the_share_of_runs_within_25_percent() -> None:
    view = errors(0.79, 0.8, 1.25, 1.3, *[1.0] * 20).view()
    assert (view.runs, view.median_ratio) == (24, 1.0)
    assert view.within_25_percent == pytest.approx(22 / 24)
    assert len(view.last) == 20
    none = errors().view()
    assert (none.runs, none.median_ratio, none.within_25_percent, none.last) == (0, None, None, [])


def test_interval_is_wide_if_the_items_decide_how_long_they_take() -> None:
    known = errors(*[1.0] * 20)
    interval = known.interval(4.0, sampled=True)
    assert (interval.low, interval.high) == (4 * SAMPLED[0], 4 * SAMPLED[1])
    assert known.interval(4.0).high == 4.0


def test_interval_is_wide_before_a_calibration() -> None:
    low, high = UNCALIBRATED
    for known in (errors(), errors(*[1.0] * 20)):
        interval = known.interval(4.0, calibrated=False)
        assert (interval.low, interval.high) == (4 * low, 4 * high)
    # Errors so far may say that it is wider still.
    interval = errors(*[0.01, 100.0] * 20).interval(4.0, calibrated=False)
    assert interval.low < 4 * low
    assert interval.high > 4 * high


def test_runs_of_an_unknown_strategy_are_left_out(store: TaskStore) -> None:
    run(store, task(1, strategy="newer"), 1.0)
    run(store, task(2), 1.0)
    assert len(read_errors(store).records) == 1
