"""Large bodies are read in another process, and answered as small ones are."""

from __future__ import annotations

import asyncio
import functools
import json
import multiprocessing
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec

import pytest

from hotloop import kernels
from hotloop.app.comparison.specs import compare_hash
from hotloop.app.errors import NotReadyError
from hotloop.app.execution.specs import request_hash
from hotloop.app.factory import create_app
from hotloop.app.http.routes import bodies
from hotloop.app.http.routes.bodies import LARGE_BYTES, BodyReader, Faults, Run, read_run
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.declared import MAX_INLINE_ITEMS
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.runs import BackgroundRequest, RunRequest, read_request
from hotloop.app.settings.settings import Settings
from tests.fixtures.client import Client, open_client
from tests.fixtures.fake_services import FakeServices
from tests.fixtures.third_workload import WORKLOAD as SIGNALS

P = ParamSpec("P")

ROWS = [{"item_id": i, "value": i / 7, "offset": 2**31 - 1 - i} for i in range(3)]
PADDING = b" " * LARGE_BYTES

BAD: dict[str, bytes] = {
    "bound": b'{"workers": 0, "batch_size": 2.5, "kernel": "x"}',
    "broken": b'{"workers": 1',
    "both": json.dumps({"items": ROWS, "items_count": 3}).encode(),
    "deep": b"[" * 2_000,
    "digits": b'{"items_count": ' + b"9" * 5_000 + b"}",
    "faults": json.dumps({f"x{i}": 1 for i in range(1_500)}).encode(),
    "list": b"[]",
    "name": json.dumps({"x" * 2_000: 1}).encode(),
    "nan": b'{"timeout_seconds": NaN}',
    "nesting": b'{"parameters": {"outer_iterations": 100000, "inner_iterations": 100000}}',
    "row": json.dumps({"items": [*ROWS, {"item_id": -1, "value": "x", "more": 1}]}).encode(),
    "text": b'"' + b"y" * 3_000 + b'"',
    "utf8": b'{"workload": "\xff"}',
}


class Reader(BodyReader):
    """Knows its process from those of others."""

    def __init__(self) -> None:
        super().__init__()
        self._others = set(multiprocessing.active_children())

    @property
    def processes(self) -> set[BaseProcess]:
        return set(multiprocessing.active_children()) - self._others

    async def request(self, model: type[Run], body: object, padding: bytes = b"") -> Run:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        read = await self.read(partial(read_run, model), content + padding)
        assert isinstance(read, model)
        return read


@asynccontextmanager
async def reader() -> AsyncIterator[Reader]:
    made = Reader()
    try:
        yield made
    finally:
        await made.close()
        assert not made.processes


def in_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def spy(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the bodies that this process itself reads."""
    sizes: list[int] = []
    here = read_request

    def noted(model: type[RunRequest], content: bytes) -> RunRequest:
        sizes.append(len(content))
        return here(model, content)

    monkeypatch.setattr(bodies, "read_request", noted)
    return sizes


@in_loop
async def test_large_bodies_are_not_read_here(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = spy(monkeypatch)
    largest = [{"item_id": i, "value": 0.5, "offset": i} for i in range(MAX_INLINE_ITEMS)]
    async with reader() as bodies:
        await bodies.request(RunRequest, {"items": ROWS})
        assert not bodies.processes
        for _ in range(2):
            large = await bodies.request(RunRequest, {"items": largest})
            assert len(bodies.processes) == 1
        assert large.total_items == MAX_INLINE_ITEMS
        rows: Any = large.items
        assert isinstance(rows, ItemColumns)
        assert list(rows) == largest
        hostile = json.dumps({f"x{i}": 0 for i in range(500_000)}).encode()
        refused = await bodies.read(partial(read_run, RunRequest), hostile)
        assert isinstance(refused, Faults)
        assert refused.faults[0]["msg"] == "has 500,000 faults"
    assert max(sizes) < LARGE_BYTES


@in_loop
async def test_faults_are_small_for_any_body() -> None:
    long = "z" * 1_000_000
    body = json.dumps({long: 1, "workload": [long], "kernel": long, "workers": {long: long}})
    async with reader() as bodies:
        refused = await bodies.read(partial(read_run, RunRequest), body.encode())
    assert isinstance(refused, Faults)
    assert len(refused.faults) == 4
    assert len(repr(refused.faults)) < 5_000


@pytest.mark.parametrize("model", [BackgroundRequest, CompareRequest, RunRequest])
@in_loop
async def test_reader_process_reads_the_same_request(model: type[RunRequest]) -> None:
    body = {"items": ROWS, "kernel": "python", "workers": 3}
    async with reader() as bodies:
        here = await bodies.request(model, body)
        there = await bodies.request(model, body, PADDING)
        assert len(bodies.processes) == 1
    rows: Any = there.items
    assert isinstance(rows, ItemColumns)
    assert list(rows) == here.items == ROWS
    assert there.model_fields_set == here.model_fields_set
    assert there.model_dump(exclude={"items"}) == here.model_dump(exclude={"items"})
    assert digest(here) == digest(there)
    other = here.model_copy(update={"items": [*ROWS[:2], ROWS[2] | {"value": 9.0}]})
    assert digest(other) != digest(there)
    assert digest(here.model_copy(update={"workers": 4})) != digest(there)


@in_loop
async def test_reader_process_knows_the_workloads_of_now() -> None:
    rows = [{"item_id": 1, "inverted": True, "noise": -3, "samples": [1.5, 2, -1]}]
    body = {"workload": "signals", "items": rows, "parameters": {"method": "mean"}}
    content = json.dumps(body).encode() + PADDING
    sampled = replace(SIGNALS.columns_in[2], sample="made here", sampler=lambda ids: ids)
    async with reader() as bodies:
        before = await bodies.read(partial(read_run, RunRequest), content)
        kernels.declare(replace(SIGNALS, columns_in=(*SIGNALS.columns_in[:2], sampled)))
        try:
            during = await bodies.request(RunRequest, content)
            kernels.declare(replace(SIGNALS, parameters=()))
            changed = await bodies.read(partial(read_run, RunRequest), content)
        finally:
            kernels.withdraw("signals")
        assert await bodies.read(partial(read_run, RunRequest), content) == before
        assert len(bodies.processes) == 1
    read: Any = during.items
    assert (list(read), during.parameters["method"]) == (rows, "mean")
    assert read.columns["samples"].shape == (1, 3)
    assert isinstance(before, Faults)
    assert isinstance(changed, Faults)
    assert [fault["loc"] for fault in before.faults] == [("body", "workload")]
    assert changed.faults[0]["loc"] == ("body", "parameters", "method")


def digest(request: RunRequest) -> str:
    if isinstance(request, CompareRequest):
        return compare_hash(request)
    return request_hash(request)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with open_client(create_app(Settings(), FakeServices().open)) as client:
        yield client


@pytest.mark.parametrize("name", sorted(BAD))
def test_reader_process_refuses_with_the_same_words(client: Client, name: str) -> None:
    def refusal(content: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        answer = client.post("/api/v1/tasks/hybrid", content=content, headers=headers)
        assert answer.status_code == 422
        # Where it breaks off moves with the padding.
        return re.sub(r"column \d+", "column", answer.text)

    small, large = BAD[name], PADDING + BAD[name]
    assert len(small) < LARGE_BYTES
    assert refusal(large) == refusal(small)


@in_loop
async def test_bodies_are_read_in_turns_over_clients() -> None:
    read: list[str] = []

    async def ask(bodies: Reader, client: str, padding: bytes) -> None:
        await bodies.read(partial(read_run, RunRequest), b"{}" + padding, client)
        read.append(client)

    async with reader() as bodies:
        await bodies.request(RunRequest, {}, PADDING)
        many = [asyncio.create_task(ask(bodies, "many", PADDING * 30)) for _ in range(8)]
        await asyncio.sleep(0)
        await ask(bodies, "one", PADDING)
        assert read.count("many") <= 2
        await asyncio.gather(*many)
    assert read.count("many") == 8


@in_loop
async def test_request_that_is_cancelled_leaves_the_turn_to_the_next() -> None:
    async with reader() as bodies:
        first = asyncio.create_task(bodies.request(RunRequest, {}, PADDING))
        waiting = [asyncio.create_task(bodies.request(RunRequest, {}, PADDING)) for _ in range(4)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await first
        waiting[1].cancel()  # as it has its turn
        await asyncio.gather(*waiting[2:])
        await bodies.request(RunRequest, {}, PADDING)


@in_loop
async def test_death_of_the_reader_process_is_an_error_and_it_is_replaced() -> None:
    async with reader() as bodies:
        await bodies.request(RunRequest, {}, PADDING)
        (child,) = bodies.processes
        child.kill()
        await asyncio.to_thread(child.join)
        with pytest.raises(NotReadyError, match="send the body again"):
            await bodies.read(partial(read_run, RunRequest), b"{}" + PADDING)
        await bodies.request(RunRequest, {}, PADDING)
