"""strategies.cluster: what runs on a cluster promise beyond the contract of all strategies."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from hotloop import kernels
from hotloop.app.errors import ClusterLostError, ClusterUnusableError, WorkerCrashedError
from hotloop.app.sources.base import Batch, ItemBatch, Positions
from hotloop.app.sources.inline import InlineItems
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import BatchResult, Plan, Strategy
from hotloop.app.strategies.cluster import parcels
from hotloop.app.strategies.cluster.driver_process import SILENT_SECONDS
from tests.clusters.conftest import OnCluster
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.processes import is_gone
from tests.fixtures.stages import EndlessStage, HoldingStage, byte_count
from tests.fixtures.waiting import until

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

ANSWER_SECONDS = 5.0
"""Time in which a loss is told, and in which a stuck worker is gone."""


async def first_result(strategy: Strategy, plan: Plan) -> BatchResult:
    async with aclosing(strategy.run(plan)) as results:
        return await anext(results)


def test_parcels_of_many_batches_give_the_same_bits(used: OnCluster) -> None:
    plan = make_plan(
        used.name,
        items=GeneratedItems(1_003),
        batch_size=10,
        ranges=((0, 400), (500, 503)),
        batch_seconds=0.1,
    )
    results = used.runner.run(used.results(plan))
    assert sorted(r.batch.index for r in results) == [*range(40), *range(50, 101)]
    whole = replace(plan, ranges=None)
    inputs = whole.items.load(whole.workload, 0, 1_003)
    every = kernels.get_kernel(whole.workload, whole.kernel).run(inputs.columns, whole.parameters)
    for result in results:
        for name, column in result.columns.items():
            assert column.tobytes() == every[name][result.item_ids].tobytes()


def test_items_of_a_request_travel_with_their_parcels(used: OnCluster) -> None:
    made = GeneratedItems(500).load("loops", 0, 500)
    items = InlineItems(made.item_ids[::-1].copy(), made.columns)
    plan = make_plan(used.name, items=items, batch_size=30, batch_seconds=0.1)
    results = used.runner.run(used.results(plan))
    assert total_checksum(results) == expected_checksum(plan)
    ids = np.concatenate([r.item_ids for r in sorted(results, key=lambda r: r.batch.start)])
    assert np.array_equal(ids, items.item_ids)


def test_workers_report_what_they_used(used: OnCluster) -> None:
    plan = make_plan(used.name, stages=(SimulatedStage("db", 0.001, 0.001),))
    reports = [r.usage for r in used.runner.run(used.results(plan)) if r.usage is not None]
    assert len({report.worker for report in reports}) == 2
    assert all(report.cpu_seconds > 0 and report.peak_bytes > 1 << 20 for report in reports)


def test_cancelled_run_frees_its_workers_before_their_parcels_end(
    used: OnCluster, tmp_path: Path
) -> None:
    """The parcels in work would take 20 s; the batch in work takes 0.1 s."""
    started = str(tmp_path / "started")
    plan = make_plan(
        used.name,
        items=GeneratedItems(10_000),
        stages=(MarkingStage(started, 0.1),),
        batch_size=10,
        batch_seconds=0.001,
    )

    async def cancel() -> int:
        await used.strategy.prepare(plan)
        task = asyncio.create_task(first_result(used.strategy, plan))
        await until(lambda: byte_count(started) >= 2, "both workers compute")
        task.cancel()
        await asyncio.wait((task,))
        begun = byte_count(started)
        assert total_checksum(await used.results(make_plan(used.name))) > 0
        return byte_count(started) - begun

    assert used.runner.run(cancel()) == 0


def test_worker_that_never_ends_its_batch_is_killed(used: OnCluster, tmp_path: Path) -> None:
    started = str(tmp_path / "started")
    plan = make_plan(used.name, stages=(HoldingStage("db", started=started),), workers=1)
    before = [psutil.Process(pid) for pid in used.cluster.worker_pids()]

    async def cancel() -> float:
        await used.strategy.prepare(plan)
        task = asyncio.create_task(first_result(used.strategy, plan))
        await until(lambda: byte_count(started) > 0, "a worker hangs")
        task.cancel()
        began = time.monotonic()
        await asyncio.wait((task,))
        await until(lambda: any(map(is_gone, before)), "the worker is gone", ANSWER_SECONDS)
        return time.monotonic() - began

    used.runner.run(cancel())
    # The cluster has replaced it, and computes.
    assert total_checksum(used.runner.run(used.results(make_plan(used.name)))) == expected_checksum(
        make_plan(used.name)
    )


def test_parcel_that_hangs_is_computed_by_another_worker(used: OnCluster, tmp_path: Path) -> None:
    """The first worker that comes to the last parcel waits for ever."""
    held = str(tmp_path / "held")
    plan = make_plan(
        used.name, items=GeneratedItems(100), batch_size=10, stages=(HeldOnceStage(held, 0.0),)
    )
    results = used.runner.run(used.results(plan))
    assert total_checksum(results) == expected_checksum(plan)
    assert len(results) == 10
    assert byte_count(held) == 2


def test_batch_that_always_kills_its_worker_ends_the_run(used: OnCluster) -> None:
    plan = make_plan(used.name, stages=(KillingStage(),), max_batch_retries=2, workers=1)
    with pytest.raises(WorkerCrashedError, match="3 times"):
        used.runner.run(used.results(plan))


def test_worker_with_other_code_is_refused_in_words(
    used: OnCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(parcels.code(), numpy="0.1")
    monkeypatch.setattr(parcels, "code", lambda: other)
    plan = make_plan(used.name)

    async def compute() -> None:
        await used.driver.ensure()
        outcome = await used.driver.compute(parcels.pack("run", plan, tuple(batches(plan))))
        assert outcome.error is not None
        raise outcome.error

    with pytest.raises(ClusterUnusableError, match=r"numpy 0\.1"):
        used.runner.run(compute())


def batches(plan: Plan) -> list[Batch]:
    return [Batch(0, 0, plan.batch_size)]


def test_driver_that_is_killed_is_replaced(used: OnCluster, tmp_path: Path) -> None:
    plan = make_plan(
        used.name, items=GeneratedItems(300), batch_size=10, stages=(MarkingStage(None, 0.05),)
    )

    async def kill() -> list[BatchResult]:
        await used.strategy.prepare(plan)
        results = []
        async with aclosing(used.strategy.run(plan)) as given:
            async for result in given:
                results.append(result)
                if len(results) == 3:
                    os.kill(used.driver.pids[0], signal.SIGKILL)
        return results

    results = used.runner.run(kill())
    assert total_checksum(results) == expected_checksum(plan)
    assert len(results) == 30


def test_driver_that_hangs_is_given_up_and_killed(used: OnCluster, tmp_path: Path) -> None:
    plan = make_plan(used.name, stages=(EndlessStage(str(tmp_path / "started")),))

    async def freeze() -> None:
        await used.strategy.prepare(plan)
        driver = psutil.Process(used.driver.pids[0])
        task = asyncio.create_task(first_result(used.strategy, plan))
        await until(lambda: byte_count(str(tmp_path / "started")) > 0, "a worker computes")
        driver.suspend()
        began = time.monotonic()
        with pytest.raises(ClusterLostError, match=f"{SILENT_SECONDS:g} s"):
            await task
        assert is_gone(driver)
        assert time.monotonic() - began > 1.0

    used.runner.run(freeze())


@dataclass(frozen=True, slots=True)
class MarkingStage:
    """Waits for each batch; `started` gets a byte before."""

    started: str | None
    seconds: float
    name: str = "db"
    source: str = "simulated"
    batched: bool = True

    @property
    def seconds_per_call(self) -> float:
        return self.seconds

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        if self.started is not None and 0 in positions:
            _append(self.started)
        stop.wait(self.seconds / 10)

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class HeldOnceStage(MarkingStage):
    """Waits for ever for the batch of an item when it comes for the first time."""

    item: int = 90

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        assert self.started is not None
        if self.item in batch.item_ids and 0 in positions:
            _append(self.started)
            if byte_count(self.started) == 1:
                stop.wait()


@dataclass(frozen=True, slots=True)
class KillingStage(MarkingStage):
    """Kills the worker."""

    started: str | None = None
    seconds: float = 0.0

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def _append(path: str) -> None:
    with Path(path).open("ab") as file:
        file.write(b".")
