"""The judge distinguishes wrong answers from right ones."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.soak.arrivals import Arrival, Kind
from tests.soak.asking import Asker
from tests.soak.bodies import CELLS, background_body, right_checksum, run_body

TASK = "task_0000000a_1"
BODY = background_body(0)
RESULT: dict[str, Any] = {
    "status": "completed",
    "failed_items": 0,
    "items_processed": BODY.items,
    "checksum": BODY.checksum,
}
VIEW: dict[str, Any] = {"task_id": TASK, "status": "completed", "result": RESULT}


def asked(kind: Kind, answer: httpx.Response) -> Asker:
    """Send one request of the kind to a service that gives this answer."""

    async def ask() -> Asker:
        transport = httpx.MockTransport(lambda _: answer)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asker = Asker(client, 1)
            await asker.ask_all([Arrival(0.0, kind, 0)])
            return asker

    return asyncio.run(ask())


def problem(status: int, name: str) -> httpx.Response:
    fields = {"type": f"urn:hotloop:problem:{name}", "task_id": TASK}
    return httpx.Response(status, json=fields)


@pytest.fixture
def asker() -> Asker:
    asker = Asker(httpx.AsyncClient(), 1)
    asker.accepted[TASK] = BODY
    return asker


def test_runs_cover_every_strategy_and_kernel() -> None:
    turns = {(strategy, body.kernel) for strategy, body in map(run_body, range(len(CELLS)))}
    assert turns == {(strategy.value, kernel) for strategy, kernel in CELLS}
    assert len(turns) == 18


def test_checksums_depend_on_kernel_and_items() -> None:
    assert right_checksum("numba", 60) == right_checksum("cython", 60)
    assert len({right_checksum("python", count) for count in (60, 240)}) == 2


@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [
        (Kind.BACKGROUND, 500, "internal-error"),
        (Kind.HEALTH, 503, "store-unavailable"),
        (Kind.LIST, 502, "x"),
        (Kind.RUN, 500, "worker-crashed"),
        (Kind.STATUS, 422, "invalid-request"),
    ],
)
def test_unexpected_answer_is_a_fault(kind: Kind, status: int, name: str) -> None:
    (fault,) = asked(kind, problem(status, name)).faults
    assert str(status) in fault


@pytest.mark.parametrize("name", ["not-ready", "too-busy"])
def test_refusal_is_no_fault(name: str) -> None:
    asker = asked(Kind.RUN, problem(503, name))
    assert (asker.faults, [answer.status for answer in asker.answers]) == ([], [503])


def test_death_of_a_run_host_is_counted() -> None:
    asker = asked(Kind.RUN, problem(500, "run-host-died"))
    assert (asker.faults, asker.died) == ([], {TASK})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("checksum", "0" * 16),
        ("failed_items", 1),
        ("items_processed", BODY.items - 1),
        ("status", "failed"),
    ],
)
def test_wrong_result_is_a_fault(asker: Asker, field: str, value: object) -> None:
    strategy, _ = run_body(0)
    assert strategy == BODY.fields["strategy"]
    assert asked(Kind.RUN, httpx.Response(200, json=RESULT)).faults == []
    assert len(asked(Kind.RUN, httpx.Response(200, json=RESULT | {field: value})).faults) == 1
    with pytest.raises(AssertionError):
        asker.judge_status(VIEW | {"result": RESULT | {field: value}})
    assert asker.completed == set()


def test_background_task_counts_once_it_is_completed(asker: Asker) -> None:
    asker.judge_status(VIEW | {"status": "running", "result": None})
    assert asker.completed == set()
    asker.judge_status(VIEW)
    assert asker.completed == {TASK}


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_background_task_that_is_not_completed_is_a_fault(asker: Asker, status: str) -> None:
    with pytest.raises(AssertionError):
        asker.judge_status(VIEW | {"status": status})
