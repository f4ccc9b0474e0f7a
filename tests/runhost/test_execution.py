"""Results are sent to the API: all of them, in order, gathered, with a bound on their size."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hotloop.app.runhost import execution
from hotloop.app.runhost.execution import Outbox
from hotloop.app.runhost.messages import Batches
from hotloop.app.sources.base import Batch
from hotloop.app.strategies.base import BatchResult
from tests.fixtures.waiting import in_loop


def result(index: int, items: int = 1) -> BatchResult:
    return BatchResult(
        batch=Batch(index, index * items, items),
        item_ids=np.zeros(items, dtype=np.int64),
        columns={},
        failed=np.zeros(items, dtype=np.bool_),
        errors=(),
        checksum=0,
        io_seconds=0.0,
    )


def test_everything_is_sent_in_order_in_few_messages() -> None:
    sent: list[Batches] = []

    async def send(message: Batches) -> None:
        sent.append(message)

    async def run() -> None:
        box = Outbox(send)
        for index in range(1_000):
            await box.put(result(index))
        await box.close()

    asyncio.run(run())
    assert [r.batch.index for message in sent for r in message.results] == list(range(1_000))
    assert len(sent) < 100


@in_loop
async def test_run_waits_when_the_other_end_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "FULL_BYTES", 80)
    gate = asyncio.Event()

    async def send(_: Batches) -> None:
        await gate.wait()

    box = Outbox(send)
    put = 0

    async def put_all() -> None:
        nonlocal put
        for index in range(100):
            await box.put(result(index, items=10))  # 80 bytes each
            put += 1

    putting = asyncio.create_task(put_all())
    for _ in range(100):
        await asyncio.sleep(0)
    assert put <= 2  # one being sent, one held
    gate.set()
    await putting
    await box.close()


@in_loop
async def test_error_of_the_sender_comes_out() -> None:
    async def send(_: Batches) -> None:
        raise ConnectionResetError

    box = Outbox(send)
    await box.put(result(0))
    with pytest.raises(ConnectionResetError):
        await box.close()


@in_loop
async def test_run_that_waits_hears_of_a_sender_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(execution, "FULL_BYTES", 8)
    gate = asyncio.Event()

    async def send(_: Batches) -> None:
        await gate.wait()
        raise ConnectionResetError

    async def put_all(box: Outbox) -> None:
        for index in range(100):
            await box.put(result(index))

    putting = asyncio.create_task(put_all(Outbox(send)))
    await asyncio.sleep(0)
    gate.set()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(putting, 30)
