"""strategies.base, strategies.worker: progress counts each stage and kernel call of an item."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.sources.base import Batch, ItemBatch, Positions
from hotloop.app.sources.simulated import GeneratedItems, SimulatedStage
from hotloop.app.strategies.base import (
    BatchResult,
    InFlight,
    StepCount,
    Strategy,
    count_in,
    steps_of,
)
from hotloop.app.strategies.worker import compute_batch, run_batch
from tests.fixtures.plans import expected_checksum, make_plan, total_checksum
from tests.fixtures.stages import DeadlyItems, FailingStage, append_byte, byte_count
from tests.fixtures.waiting import until

BATCH = Batch(3, 0, 50)


@dataclass(frozen=True, slots=True)
class GatedStage:
    """Lets items pass until `free` of them have, and the rest once the file `gate` exists."""

    passed: str
    gate: str
    free: int
    name: str = "db"
    source: str = "simulated"
    batched: bool = False
    seconds_per_call: float = 0.0

    def fetch(self, batch: ItemBatch, positions: Positions, stop: threading.Event) -> None:
        while self._must_wait() and not stop.wait(0.005):
            pass
        append_byte(self.passed)

    async def fetch_async(self, batch: ItemBatch, positions: Positions) -> None:
        await asyncio.to_thread(self.fetch, batch, positions, threading.Event())

    def _must_wait(self) -> bool:
        return byte_count(self.passed) >= self.free and not Path(self.gate).exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_counted_before_their_batch_ends(
    runner: asyncio.Runner, local_strategy: Strategy, workers: int, tmp_path: Path
) -> None:
    """20 of 100 items pass the first of two stages; then everything waits."""
    strategy = local_strategy  # a cluster tells of batches when they end
    gated = GatedStage(str(tmp_path / "passed"), str(tmp_path / "gate"), free=20)
    plan = make_plan(
        strategy.name,
        items=GeneratedItems(100),
        batch_size=50,
        workers=workers,
        io_concurrency=5,
        stages=(gated, SimulatedStage("cache", 0.0, 0.0001)),
    )
    expected = expected_checksum(plan)

    async def run() -> None:
        await strategy.prepare(plan)

        async def collect() -> list[BatchResult]:
            async with aclosing(strategy.run(plan)) as given:
                return [result async for result in given]

        running = asyncio.create_task(collect())
        seen = [0]

        def at_rest() -> bool:
            seen.append(strategy.in_flight.steps())
            # Those that pass at the same moment may be a few more than are free.
            return seen[-1] == seen[-2] >= 20 and byte_count(gated.passed) >= 20

        await until(at_rest, "items have passed")
        assert not running.done()
        assert seen == sorted(seen)
        # Sequentially, each has passed the second stage and the kernel as well.
        passed = byte_count(gated.passed)
        await until(lambda: strategy.in_flight.steps() >= 2 * passed, "both stages are passed")
        assert strategy.in_flight.steps() <= 3 * passed
        append_byte(gated.gate)
        assert total_checksum(await running) == expected
        assert strategy.in_flight.steps() == 0

    runner.run(run())


def test_next_run_begins_without_steps(runner: asyncio.Runner, process_strategy: Strategy) -> None:
    """Workers of a warm pool keep their last count, which is not taken for the next run's."""
    plan = make_plan(process_strategy.name, items=GeneratedItems(100), batch_size=50)

    async def run() -> None:
        for _ in range(2):
            await process_strategy.prepare(plan)
            results = process_strategy.run(plan)
            async with aclosing(results):
                async for _ in results:
                    pass
        process_strategy.in_flight.begin()
        process_strategy.in_flight.enter(Batch(0, 0, 50))
        process_strategy.in_flight.enter(Batch(1, 50, 50))
        assert process_strategy.in_flight.steps() == 0

    runner.run(run())


@pytest.mark.long
def test_lost_steps_of_a_dead_worker_do_not_count(
    runner: asyncio.Runner, process_strategy: Strategy, tmp_path: Path
) -> None:
    items = DeadlyItems(500, 250, str(tmp_path / "deaths"), times=1)
    plan = make_plan(process_strategy.name, items=items)

    async def run() -> None:
        await process_strategy.prepare(plan)
        async with aclosing(process_strategy.run(plan)) as results:
            received = 0
            async for result in results:
                received += result.batch.count
                assert received + process_strategy.in_flight.steps() <= 500
        assert received == 500

    runner.run(run())


@pytest.mark.parametrize("kernel", kernels.available_kernels("loops"))
@pytest.mark.parametrize("failing_every", [None, 7])
def test_slices_of_a_batch_give_the_same_bits(kernel: str, failing_every: int | None) -> None:
    stages = () if failing_every is None else (FailingStage(every=failing_every),)
    whole = make_plan(StrategyName.SEQUENTIAL, kernel=kernel, stages=stages)
    batch, counted = Batch(0, 0, 203), StepCount()
    expected = run_batch(whole, batch)
    for size in (1, 7, 64, 101, 102, 500):
        counted.count = 0
        result = run_batch(replace(whole, slice_items=size), batch, steps=counted)
        assert result.checksum == expected.checksum
        for name, column in result.columns.items():
            assert column.tobytes() == expected.columns[name].tobytes()
        assert counted.count == 203 * (len(stages) + 1)


def test_long_batch_reports_progress_and_a_short_one_is_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = make_plan(StrategyName.SEQUENTIAL, kernel="python", slice_items=20)
    kernel = kernels.get_kernel("loops", "python")
    calls: list[int] = []
    counted = StepCount()
    run = type(kernel).run

    def noted(self: object, columns: object, *args: object, **kwargs: object) -> object:
        calls.append(counted.count)
        return run(self, columns, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(type(kernel), "run", noted)
    for count, expected in ((39, [0]), (50, [0, 20, 40])):
        counted.count = 0
        calls.clear()
        inputs = plan.items.load("loops", 0, count)
        compute_batch(plan, Batch(0, 0, count), inputs, 0.0, counted)
        assert calls == expected


def test_report_of_a_worker_counts_for_the_named_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hotloop.app.strategies.base._mine", None)
    words = [0, 0]
    count_in(words, 1)
    steps = steps_of(BATCH)
    steps.count += 30
    steps.count += 12
    in_flight = InFlight()
    in_flight.begin(lambda: [0, 0])
    in_flight.begin(lambda: words)
    assert words == [0, 0]
    steps.count += 1
    assert in_flight.steps() == 0  # it is not in work in this run
    own = in_flight.enter(BATCH)
    own.count += 5
    assert in_flight.steps() == 43 + 5
    in_flight.leave(BATCH)
    assert in_flight.steps() == 0
