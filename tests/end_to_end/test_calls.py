"""execution/calls.py, execution/kinds.py, routes/calls.py, schemas/calls.py: a few items at once.

Calls of a real service are computed at once, stored, and seen by their owner.
"""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pytest

from hotloop import kernels
from hotloop.app.names import Scope
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.own_modules import write
from tests.fixtures.server import FAST, Server, running_server
from tests.fixtures.waiting import wait_until

CALL: Final = "/api/v1/workloads/loops"
ITEMS: Final = [{"value": 0.5, "offset": 7}, {"value": 2.0, "offset": 1}]
BODY: Final[dict[str, Any]] = {"items": ITEMS, "parameters": FAST}

ROOT_OF: Final = """
import hotloop

@hotloop.workload(columns={"square": hotloop.Float(-10.0, 1e6)})
def root(square: float) -> float:
    return square ** 0.5 if square >= 0.0 else 1.0 / (square - square)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("calls")
    file = write(folder, "root", ROOT_OF)
    with running_server(folder, run_hosts=1, workloads=str(file)) as server:
        server.wait_ready()
        wait_until(lambda: "root" in server.client.get("/api/v1/tasks/kernels").text, "root", 60)
        yield server


def columns_of(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "value": np.array([item["value"] for item in items]),
        "offset": np.array([item["offset"] for item in items], dtype=np.int64),
    }


def expected(items: list[dict[str, Any]], kernel: str) -> dict[str, Any]:
    """The outputs of a kernel call in this process, which have the same bits."""
    return kernels.get_kernel("loops", kernel).run(columns_of(items), FAST)


def call(server: Server, path: str = CALL, **body: Any) -> dict[str, Any]:
    answer = server.client.post(path, json={**BODY, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("kernel", ["auto", "python", "cython", "numba"])
def test_call_is_computed_and_kept_as_a_task(server: Server, kernel: str) -> None:
    found = call(server, kernel=kernel)
    outputs = expected(ITEMS, found["kernel"])
    assert found["results"] == [
        {name: column[row].item() for name, column in outputs.items()} for row in range(2)
    ]
    assert (found["failed_items"], found["errors"]) == (0, [])
    view = server.view(found["task_id"])
    assert (view["status"], view["items_processed"]) == ("completed", 2)
    assert view["kernel"] == found["kernel"]
    ids = np.arange(2, dtype=np.int64)
    assert view["result"]["checksum"] == checksum_text(rows_checksum(ids, outputs))
    lines = server.client.get(f"/api/v1/tasks/results/{found['task_id']}").text.splitlines()
    assert len(lines) == 2


def test_items_may_have_ids(server: Server) -> None:
    items = [{"item_id": 90, **ITEMS[0]}, ITEMS[1]]
    task_id = call(server, items=items)["task_id"]
    text = server.client.get(f"/api/v1/tasks/results/{task_id}").text
    assert '"item_id":90,' in text
    assert '"item_id":1,' in text


def test_record_decides_what_is_kept(server: Server) -> None:
    def count() -> int:
        return int(server.client.get("/api/v1/tasks/results?limit=1").json()["total"])

    before = count()
    assert call(server, record="none")["task_id"] is None
    assert count() == before
    lazy = call(server, record="lazy")["task_id"]
    path = f"/api/v1/tasks/status/{lazy}"
    wait_until(lambda: server.client.get(path).is_success, "it is stored")


def test_calls_at_the_same_time_share_kernel_calls(server: Server) -> None:
    def counted(name: str) -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    before = counted("hotloop_calls_total"), counted("hotloop_micro_batches_total")
    items = [{"value": number / 8, "offset": number} for number in range(200)]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda item: call(server, items=[item]), items))
    outputs = expected(items, found[0]["kernel"])
    for row, each in enumerate(found):
        assert each["results"] == [{n: column[row].item() for n, column in outputs.items()}]
    assert len({each["task_id"] for each in found}) == len(items)
    calls = counted("hotloop_calls_total") - before[0]
    batches = counted("hotloop_micro_batches_total") - before[1]
    assert calls == 200
    assert batches < calls


def test_long_call_is_answered_as_a_run(server: Server) -> None:
    items = [{"value": row / 16, "offset": row} for row in range(5_000)]
    found = call(server, items=items, record="none")
    outputs = expected(items, found["kernel"])
    assert [row["loop"] for row in found["results"]] == outputs["loop"].tolist()
    assert [row["nested"] for row in found["results"]] == outputs["nested"].tolist()
    assert server.view(found["task_id"])["status"] == "completed"
    assert found["record"] == "durable"


def test_own_workload_fails_for_one_item_only(server: Server) -> None:
    items = [{"square": 4.0}, {"square": -1.0}, {"square": 9.0}]
    found = call(server, "/api/v1/workloads/root", items=items, parameters={})
    assert found["results"] == [{"result": 2.0}, {"result": None}, {"result": 3.0}]
    assert found["failed_items"] == 1
    (error,) = found["errors"]
    assert (error["item_id"], error["stage"]) == (1, "kernel")
    assert "ZeroDivisionError" in error["reason"]
    assert server.view(found["task_id"])["result"]["failed_items"] == 1
    view = server.client.get("/api/v1/workloads/root").json()
    assert [each["name"] for each in view["workloads"]] == ["root"]
    assert {each["workload"] for each in view["kernels"]} == {"root"}


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/v1/workloads/nothing", BODY, 404, "'nothing' is unknown; choose from: loops, root"),
        (CALL, {}, 422, "items: is required"),
        (CALL, {"items": []}, 422, "items: must have at least 1"),
        (CALL, {"items": [{"value": 0.5}]}, 422, "items.0.offset: is required"),
        (CALL, {"items": [{"value": -1.0, "offset": 1}]}, 422, "items.0.value: must be at least 0"),
        (CALL, {"items": ITEMS, "record": "maybe"}, 422, "record: "),
        (CALL, {"items": ITEMS, "kernel": "fortran"}, 422, "kernel: "),
        (CALL, {"items": ITEMS, "strategy": "hybrid"}, 422, "strategy: is not a known field"),
        (CALL, {"items": ITEMS, "parameters": {"turns": 1}}, 422, "parameters.turns: "),
        (f"{CALL}?record=none", BODY, 422, "record: "),
    ],
)
def test_bad_call_is_refused_in_words(
    server: Server, path: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = server.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


def test_large_body_is_read_beside_the_loop(server: Server) -> None:
    items: list[dict[str, Any]] = [{"value": 0.25, "offset": row} for row in range(2_000)]
    items[1_500] = {"value": "much", "offset": 1}
    answer = server.client.post(CALL, json={"items": items, "parameters": FAST})
    assert answer.status_code == 422
    assert "items.1500.value" in answer.json()["detail"]
    items[1_500] = {"value": 0.25, "offset": 1}
    assert len(call(server, items=items)["results"]) == 2_000


@pytest.mark.long
def test_calls_belong_to_their_clients(tmp_path: Path) -> None:
    alice, bob = make_key("alice"), make_key("bob")
    keys = keys_setting([alice, bob])
    with running_server(tmp_path, run_hosts=1, api_keys=keys) as server:
        server.wait_ready()
        mine, other = alice.headers, bob.headers
        path = server.url + CALL
        assert httpx.post(path, json=BODY).status_code == 401
        task_id = httpx.post(path, json=BODY, headers=mine, timeout=60).json()["task_id"]
        status = f"{server.url}/api/v1/tasks/status/{task_id}"
        assert httpx.get(status, headers=mine).status_code == 200
        assert httpx.get(status, headers=other).status_code == 404


@pytest.mark.long
def test_answered_calls_survive_a_kill(tmp_path: Path) -> None:
    answered: list[str] = []
    chance = random.Random(1)
    for _ in range(5):
        with running_server(tmp_path, run_hosts=1) as server, ThreadPoolExecutor(8) as threads:
            server.wait_ready()
            call(server)  # the run host is warm
            begun = len(answered)
            most = chance.randrange(50, 300)

            def ask(_: int, server: Server = server) -> None:
                try:
                    answer = httpx.post(server.url + CALL, json=BODY, timeout=60)
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    answered.append(answer.json()["task_id"])

            calls = [threads.submit(ask, number) for number in range(600)]
            wait_until(lambda: len(answered) - begun >= most, "some are answered", 60, 0.001)  # noqa: B023
            server.stop(signal.SIGKILL)
            for each in calls:
                each.cancel()
    with running_server(tmp_path, run_hosts=1) as server:
        server.wait_ready()
        assert len(set(answered)) == len(answered) > 250
        for task_id in answered:
            assert server.view(task_id)["status"] == "completed"


ORDINARY: Final = {"Cookie": "any=thing"}
"""Headers with which a call goes through all middleware, as calls of browsers do."""


def answers(
    server: Server, content: bytes | str, path: str = CALL, **headers: str
) -> list[httpx.Response]:
    """The answer of the short way, and that of the ordinary one."""
    known = {"Content-Type": "application/json", **headers}
    return [
        server.client.post(path, content=content, headers=known | more) for more in ({}, ORDINARY)
    ]


def same_but_ids(answer: httpx.Response) -> Any:
    """The parts of an answer that do not differ from call to call."""
    body = answer.json()
    for name in ("task_id", "duration_seconds", "error_id"):
        body.pop(name, None)
    left = ("date", "content-length", "x-request-id", "ratelimit")
    headers = {n: v for n, v in answer.headers.items() if n not in left}
    return answer.status_code, headers, body


LINES_OF_FAULTS: Final = [
    "",
    "{}",
    "[]",
    "nothing",
    '{"items": []}',
    '{"items": [{"value": 0.5}]}',
    '{"items": [{"value": NaN, "offset": 7}]}',
    '{"items": [{"value": 0.5, "offset": 7}], "record": "some"}',
    '{"items": [{"value": 0.5, "offset": 7}], "kernel": "fortran"}',
    '{"items": [{"value": 0.5, "offset": 7, "more": 1}]}',
]


@pytest.mark.parametrize("content", LINES_OF_FAULTS)
def test_both_ways_refuse_alike(server: Server, content: str) -> None:
    short, ordinary = answers(server, content)
    assert same_but_ids(short) == same_but_ids(ordinary)
    assert short.status_code == 422


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (CALL, {}, 200),
        (CALL, {"Content-Type": "application/json; charset=utf-8"}, 200),
        (CALL, {"Content-Type": "text/plain"}, 415),
        (CALL, {"Content-Encoding": "gzip"}, 415),
        (CALL, {"Host": "elsewhere.example"}, 403),
        (CALL, {"Origin": "https://elsewhere.example"}, 403),
        (CALL, {"Sec-Fetch-Site": "cross-site"}, 403),
        (f"{CALL}?record=none", {}, 422),
        ("/api/v1/workloads/nothing", {}, 404),
        ("/api/v1/workloads/", {}, 404),
        (f"{CALL}/more", {}, 404),
    ],
)
def test_both_ways_answer_alike(
    server: Server, path: str, headers: dict[str, str], status: int
) -> None:
    call(server)  # the kind is known from now on
    short, ordinary = answers(server, json.dumps(BODY), path, **headers)
    assert same_but_ids(short) == same_but_ids(ordinary)
    assert short.status_code == status


def test_body_in_pieces_is_read_whole(server: Server) -> None:
    whole = json.dumps(BODY).encode()

    def pieces() -> Iterator[bytes]:
        yield whole[:20]
        yield whole[20:]

    headers = {"Content-Type": "application/json"}
    answer = server.client.post(CALL, content=pieces(), headers=headers)
    assert answer.status_code == 200
    assert answer.json()["results"] == call(server)["results"]


def _left_of(quota: str) -> int:
    return int(quota.partition(";r=")[2].partition(";")[0])


def test_short_way_asks_for_keys_and_counts_requests(tmp_path: Path) -> None:
    reader, runner = make_key("reader", Scope.READ), make_key("runner")
    settings = {"api_keys": keys_setting([reader, runner]), "rate_limit": "20/minute"}
    with running_server(tmp_path, run_hosts=1, **settings) as server:
        server.wait_ready()
        body = json.dumps(BODY)
        first = answers(server, body, **runner.headers)
        assert [answer.status_code for answer in first] == [200, 200]
        lefts = []
        for shown in (runner.headers, {"Authorization": "Bearer no"}, {}, reader.headers):
            short, ordinary = answers(server, body, **shown)
            assert same_but_ids(short) == same_but_ids(ordinary)
            lefts.append(short.headers["ratelimit"])
        assert '"requests";r=17' in lefts[0]
        # A body that the short way hands on counts once.
        before = answers(server, body, **runner.headers)[0].headers["ratelimit"]
        bad = answers(server, "nothing", **runner.headers)[0]
        assert bad.status_code == 422
        assert _left_of(before) - _left_of(bad.headers["ratelimit"]) == 2
        codes = [answer.status_code for _ in range(12) for answer in answers(server, body)]
        assert codes[-1] == 429
        assert 401 in codes
