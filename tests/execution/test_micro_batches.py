"""`execution/micro_batches.py`, `runhost/calls.py`: calls that share a kernel call.

And what becomes of their neighbours when one of them hangs or kills its process.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.errors import (
    CallTimeoutError,
    NotReadyError,
    RunHostDiedError,
    ServiceError,
    TooBusyError,
)
from hotloop.app.execution import micro_batches
from hotloop.app.execution.micro_batches import CallKind, Computed, MicroBatches
from hotloop.app.names import StrategyName
from hotloop.app.runhost.host_pool import HostPoolOptions, RunHostPool
from hotloop.app.strategies.checksum import rows_checksum
from hotloop.kernels import Workload
from tests.fixtures.own_modules import leaving_no_process, workload_of, write
from tests.fixtures.plans import make_plan
from tests.runhost.conftest import CONFIG

FEW: Final = {"cpu_iterations": 10, "outer_iterations": 2, "inner_iterations": 3}

FICKLE: Final = """
import os, signal
import hotloop

@hotloop.workload(columns={"value": hotloop.Float(0.0, 100.0)}, outputs={"half": hotloop.Float()})
def fickle(value: float) -> float:
    if value == 13.0:
        raise ValueError("thirteen")
    if value == 66.0:
        os.kill(os.getpid(), signal.SIGKILL)
    while value == 99.0:
        pass
    return value / 2.0
"""


@asynccontextmanager
async def batches() -> AsyncGenerator[tuple[MicroBatches, list[None]], None]:
    """Micro-batches, and a list that gets an entry for each kernel call."""
    called: list[None] = []
    pool = RunHostPool(
        replace(CONFIG, for_calls=True), HostPoolOptions(1, 1, 1.0, dict(os.environ))
    )
    made = MicroBatches(pool, lambda: called.append(None))
    try:
        yield made, called
    finally:
        await made.close()


def loops_kind(item_seconds: float = 1e-6) -> CallKind:
    plan = make_plan(StrategyName.SEQUENTIAL, kernel="python", parameters=FEW)
    return CallKind(plan, 1e-6, item_seconds)


def fickle_kind(workload: Workload) -> CallKind:
    plan = make_plan(StrategyName.SEQUENTIAL)
    plan = replace(
        plan,
        workload=workload.name,
        kernel="python",
        parameters={},
        source=workload.source,
        memory_bytes=1 << 30,
    )
    return CallKind(plan, 1e-6, 1e-6)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def fickle(tmp_path: Path) -> Iterator[CallKind]:
    workload = workload_of(write(tmp_path, "fickle", FICKLE))
    kernels.declare(workload)
    yield fickle_kind(workload)
    kernels.withdraw(workload.name)


def loops_columns(first: int, count: int) -> tuple[Any, dict[str, Any]]:
    ids = np.arange(first, first + count, dtype=np.int64)
    return ids, kernels.get_workload("loops").simulated_columns(ids)


async def halves(made: MicroBatches, kind: CallKind, values: Sequence[float]) -> list[Any]:
    """The outcome of a call for each value: its half, or what was raised."""

    async def half(place: int, value: float) -> Any:
        ids = np.array([place], dtype=np.int64)
        try:
            found = await made.compute(kind, ids, {"value": np.array([value])})
        except ServiceError as error:
            return error
        if found.failed:
            return found.failed[0].reason
        return found.columns["half"][0].item()

    return await asyncio.gather(*(half(*each) for each in enumerate(values)))


def test_calls_that_wait_together_share_a_kernel_call(runner: asyncio.Runner) -> None:
    async def compute() -> None:
        async with batches() as (made, called):
            kind = loops_kind()

            async def one(first: int) -> Computed:
                return await made.compute(kind, *loops_columns(first, 3))

            found = await asyncio.gather(*(one(3 * n) for n in range(50)))
            assert len(called) < 10
            for number, computed in enumerate(found):
                ids, columns = loops_columns(3 * number, 3)
                expected = kernels.get_kernel("loops", "python").run(columns, FEW)
                assert computed.columns.keys() == expected.keys()
                for name, values in expected.items():
                    assert computed.columns[name].tobytes() == values.tobytes()
                assert computed.checksum == rows_checksum(ids, expected)

    runner.run(compute())


def test_micro_batch_is_bounded(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def compute() -> None:
        async with batches() as (made, called):
            slow = loops_kind(item_seconds=micro_batches.MOST_SECONDS / 2.5)
            calls = [made.compute(slow, *loops_columns(n, 1)) for n in range(8)]
            await asyncio.gather(*calls)
            assert len(called) >= 4  # two items fit in each
            called.clear()
            monkeypatch.setattr(micro_batches, "MOST_ITEMS", 2)
            await asyncio.gather(*(made.compute(loops_kind(), *loops_columns(0, 2)) for _ in "ab"))
            assert len(called) == 2

    runner.run(compute())


def test_too_many_calls_are_refused(
    runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batches, "MOST_WAITING", 2)

    async def compute() -> None:
        async with batches() as (made, _):
            kind = loops_kind()
            calls = [asyncio.ensure_future(made.compute(kind, *loops_columns(0, 1))) for _ in "ab"]
            await asyncio.sleep(0)
            with pytest.raises(TooBusyError, match="2 calls wait already"):
                await made.compute(kind, *loops_columns(0, 1))
            await asyncio.gather(*calls)
            await made.compute(kind, *loops_columns(0, 1))

    runner.run(compute())


def test_item_that_raises_fails_alone(runner: asyncio.Runner, fickle: CallKind) -> None:
    async def compute() -> None:
        async with batches() as (made, _):
            found = await halves(made, fickle, [1.0, 13.0, 3.0])
            assert found[0] == 0.5
            assert found[1].startswith("ValueError: thirteen at ")
            assert found[2] == 1.5

    runner.run(compute())


def test_call_that_kills_its_process_fails_alone(runner: asyncio.Runner, fickle: CallKind) -> None:
    async def compute() -> None:
        async with batches() as (made, _):
            found = await halves(made, fickle, [1.0, 66.0, 3.0, 4.0])
            assert [found[0], *found[2:]] == [0.5, 1.5, 2.0]
            assert isinstance(found[1], RunHostDiedError)

    runner.run(compute())


def test_call_that_hangs_fails_alone(
    runner: asyncio.Runner, fickle: CallKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micro_batches, "LIMIT_SECONDS", 1.0)

    async def compute() -> None:
        async with batches() as (made, _):
            assert await halves(made, fickle, [2.0]) == [1.0]  # imported: the short limit holds
            monkeypatch.setattr(micro_batches, "FIRST_LIMIT_SECONDS", 2.0)
            found = await halves(made, fickle, [1.0, 99.0, 3.0])
            assert (found[0], found[2]) == (0.5, 1.5)
            assert isinstance(found[1], CallTimeoutError)
            assert "start a run" in str(found[1])

    runner.run(compute())


def test_call_whose_client_has_left_is_not_computed(runner: asyncio.Runner) -> None:
    async def compute() -> None:
        async with batches() as (made, called):
            left = asyncio.ensure_future(made.compute(loops_kind(), *loops_columns(0, 1)))
            await asyncio.sleep(0)
            left.cancel()
            await made.compute(loops_kind(), *loops_columns(0, 1))
            assert len(called) == 1

    runner.run(compute())


def test_close_fails_waiting_calls_and_ends_the_process(runner: asyncio.Runner) -> None:
    async def compute() -> None:
        async with batches() as (made, _):
            await made.compute(loops_kind(), *loops_columns(0, 1))
            waiting = asyncio.ensure_future(made.compute(loops_kind(), *loops_columns(0, 1)))
            await asyncio.sleep(0)
            await made.close()
            with pytest.raises(NotReadyError, match="stops"):
                await waiting

    with leaving_no_process():
        runner.run(compute())
