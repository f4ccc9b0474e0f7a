"""execution.batch_seconds: the predicted time until an execution stores its next results."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from hotloop.app.errors import NotReadyError
from hotloop.app.execution import batch_seconds
from hotloop.app.execution.batch_seconds import batch_predictor, run_batch_seconds
from hotloop.app.execution.specs import spec_of
from hotloop.app.names import TaskKind
from hotloop.app.runhost.measurements import Measurements
from hotloop.app.schemas.runs import RunRequest, read_request
from hotloop.app.settings.settings import Settings
from hotloop.app.tasks.model import Shard, Task
from hotloop.app.tasks.spec import InputKind
from hotloop.app.wiring import BODIES
from tests.fixtures.calibrations import REPORTS, ideal

ITEMS = 10_000_000
TASK_ID = "task_00000000_1700000000"


async def reports(*_: object) -> Any:
    return REPORTS


async def known(*_: object) -> Any:
    return ideal()


CONTEXT: Any = SimpleNamespace(
    catalogue=SimpleNamespace(reports=reports),
    calibrations=SimpleNamespace(known=known),
    settings=Settings(),
    bodies=BODIES,
)


def task(kind: str = TaskKind.RUN, strategy: str = "sequential", **body: object) -> Task:
    text = {"items_count": ITEMS, "kernel": "cython", "db": "none", "cache": "none", **body}
    request = read_request(RunRequest, str(text).replace("'", '"'))
    return Task(
        task_id=TASK_ID,
        task_type="background",
        kind=kind,
        spec=spec_of(request, InputKind.GENERATED).to_json(),
        workload="loops",
        kernel="cython",
        strategy=strategy,
        total_items=ITEMS,
        created_at=datetime(2024, 1, 1, tzinfo=UTC),
        owner="1:1.0",
        estimated_seconds=77.0,
    )


def shard(count: int = ITEMS, **changes: Any) -> Shard:
    return Shard(task_id=TASK_ID, shard=0, start=0, count=count, **changes)


def seconds(of_task: Task, of_shard: Shard) -> float:
    return asyncio.run(run_batch_seconds(CONTEXT, of_task, of_shard))


def test_batch_takes_its_share_of_the_run() -> None:
    one, ten = (seconds(task(batch_size=size, workers=1), shard()) for size in (1_000, 10_000))
    assert ten == pytest.approx(10 * one)
    both = task("run", "threading", batch_size=10_000, workers=2)
    assert seconds(both, shard()) == pytest.approx(ten)  # side by side
    four = task("run", "threading", batch_size=10_000, workers=4)
    assert seconds(four, shard()) == pytest.approx(2 * ten)  # on two CPUs


def test_batch_is_no_longer_than_its_shard() -> None:
    whole = task(batch_size=1_000, workers=1)
    assert seconds(task(batch_size=100_000, workers=1), shard(1_000)) == seconds(whole, shard())


def test_chosen_batches_take_about_a_second_and_stored_ones_stay_as_they_are() -> None:
    assert 0.5 < seconds(task(workers=1), shard()) < 2.0
    used = Measurements(batch_size=1_000).to_json()
    fixed = seconds(task(batch_size=1_000, workers=1), shard())
    assert seconds(task(workers=1), shard(details=used)) == fixed


def test_upload_that_is_not_read_yet_counts_as_nothing() -> None:
    assert seconds(task(), shard(0)) == 0.0


def predicted(of_task: Task, of_shard: Shard) -> float | None:
    """Predict in another thread, as the queue does."""

    async def ask() -> float | None:
        return await asyncio.to_thread(batch_predictor(CONTEXT), of_task, of_shard)

    return asyncio.run(ask())


def test_comparison_may_take_its_whole_estimate() -> None:
    assert predicted(task(TaskKind.COMPARISON), shard()) == 77.0


@pytest.mark.parametrize(
    ("of_task", "of_shard"),
    [
        (task(strategy="warp"), shard()),
        (task(), shard(details={"checksum": "no number"})),
    ],
)
def test_task_that_cannot_be_read_here_is_not_predicted(of_task: Task, of_shard: Shard) -> None:
    assert predicted(of_task, of_shard) is None


def test_prediction_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unready(*_: object) -> None:
        raise NotReadyError("no run host has started", 1)

    async def endless(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    cancelled = threading.Event()
    monkeypatch.setattr(batch_seconds, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(CONTEXT.catalogue, "reports", unready)
    assert predicted(task(), shard()) is None
    monkeypatch.setattr(CONTEXT.catalogue, "reports", endless)
    assert predicted(task(), shard()) is None
    assert cancelled.wait(10)
