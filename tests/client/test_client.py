"""client.client, blocking, sending, tables, progress, events: clients against a real service."""

from __future__ import annotations

import asyncio
import importlib.util
import math
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import pandas as pd
import polars as pl
import pytest

import hotloop
from hotloop.app.client import client as module
from hotloop.app.errors import InvalidRequestError, ItemFailedError, RunCancelledError, RunError
from tests.fixtures.access import keys_setting, make_key
from tests.fixtures.guarded import free_port
from tests.fixtures.own_modules import write
from tests.fixtures.server import FAST, Server, running_server
from tests.fixtures.waiting import wait_until

SOURCE: Final = """
import time
import hotloop

@hotloop.workload(
    columns={"value": hotloop.Float(0.0, 1e6)},
    parameters={"factor": hotloop.Float(0.0, 10.0, default=0.5)},
    outputs={"scaled": hotloop.Float(), "whole": hotloop.Integer()},
)
def scale(value: float, factor: float) -> tuple[float, int]:
    if value == 13.0:
        raise ValueError("thirteen")
    if value == 17.0:
        return float("inf"), 17
    return value * factor, int(value)

@hotloop.workload(columns={"square": hotloop.Float(-10.0, 1e6)})
def root(square: float) -> float:
    if square == 4.0:
        raise ValueError("four")
    if square < 0.0:
        return float("nan")
    return square ** 0.5

@hotloop.workload(columns={"seconds": hotloop.Float(0.0, 0.05)})
def wait(seconds: float) -> float:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        pass
    return seconds
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ModuleType]:
    """The file of two workloads, and the module that a program has of them."""
    file = write(tmp_path_factory.mktemp("client"), "scaling", SOURCE)
    spec = importlib.util.spec_from_file_location("scaling", file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return file, loaded


@pytest.fixture(scope="module")
def server(own: tuple[Path, ModuleType]) -> Iterator[Server]:
    with running_server(own[0].parent, run_hosts=1, workloads=str(own[0])) as server:
        server.wait_ready()
        wait_until(lambda: '"wait"' in server.client.get("/api/v1/tasks/kernels").text, "own", 60)
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[hotloop.Client]:
    with hotloop.Client(server.url) as client:
        yield client


def test_call_is_typed_as_the_function(
    client: hotloop.Client, own: tuple[Path, ModuleType]
) -> None:
    scale = own[1].scale
    assert client.call(scale, 7.5, 2.0) == scale(7.5, 2.0) == (15.0, 7)
    assert client.call(scale, value=3.0) == (1.5, 3)
    assert math.isnan(client.call(scale, 17.0)[0])
    with pytest.raises(ItemFailedError, match="thirteen"):
        client.call(scale, 13.0)
    with pytest.raises(TypeError, match="takes 2 arguments, not 3"):
        client.call(scale, 1.0, 2.0, 3.0)


def test_many_items_have_the_bits_of_the_function(
    client: hotloop.Client, own: tuple[Path, ModuleType]
) -> None:
    values = np.array([0.1, 13.0, 1e5 / 3.0])
    found = client.call_many("scale", {"value": values}, {"factor": 0.3}, kernel="python")
    assert found.failed.tolist() == [False, True, False]
    assert found.errors[0].reason == "ValueError: thirteen at scaling.py:11"
    expected = [own[1].scale(v, 0.3)[0] for v in (0.1, 1e5 / 3.0)]
    assert found["scaled"][[0, 2]].tolist() == expected
    assert found.task_id is not None
    nothing = client.call_many("scale", {"value": [1.0]}, record="none")
    assert nothing.task_id is None


def test_item_that_is_not_a_number_has_not_failed(client: hotloop.Client) -> None:
    found = client.call_many("root", {"square": [-1.0, 4.0, 9.0]}, kernel="python")
    assert found.failed.tolist() == [False, True, False]
    assert math.isnan(found["result"][0])
    assert found["result"][2] == 3.0


@pytest.mark.parametrize("table", ["columns", "rows", "pandas", "polars", "arrow"])
def test_items_come_as_any_table(client: hotloop.Client, table: str) -> None:
    columns: dict[str, Any] = {"value": np.array([0.5, 1.5]), "offset": np.array([7, 8])}
    given: Any = columns
    if table == "rows":
        given = [{"value": 0.5, "offset": 7}, {"value": 1.5, "offset": 8}]
    elif table == "pandas":
        given = pd.DataFrame(columns)
    elif table == "polars":
        given = pl.DataFrame(columns)
    elif table == "arrow":
        given = pl.DataFrame(columns).to_arrow()
    found = client.run("loops", given, FAST, kernel="python", strategy="threading")
    expected = client.call_many("loops", columns, FAST, kernel="python")
    for name, column in expected.columns.items():
        assert found[name].tobytes() == column.tobytes()
    assert found.item_ids is not None
    assert found.item_ids.tolist() == [0, 1]


def test_results_go_out_as_any_table(client: hotloop.Client) -> None:
    found = client.run("scale", {"value": [1.0, 13.0, 3.0]}, kernel="python")
    assert found.to_pandas()["scaled"].tolist()[::2] == [0.5, 1.5]
    assert found.to_pandas()["scaled"].isna().tolist() == [False, True, False]
    assert found.to_polars()["whole"].to_list() == [1, None, 3]
    assert found.to_arrow().to_pydict() == {
        "item_id": [0, 1, 2],
        "scaled": [0.5, None, 1.5],
        "whole": [1, None, 3],
    }


@pytest.mark.long
def test_many_rows_are_sent_as_a_stream(
    client: hotloop.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.linspace(20.0, 1e6, 5_003)
    expected = client.run("scale", {"value": values}, {"factor": 0.25}, workers=2)
    monkeypatch.setattr(module, "MOST_INLINE", 1_000)
    found = client.run("scale", {"value": values}, {"factor": 0.25}, workers=2)
    assert found["scaled"].tobytes() == expected["scaled"].tobytes()
    with pytest.raises(InvalidRequestError, match="priority"):
        client.submit("scale", {"value": values}, priority=3)


def test_task_is_followed_shown_and_cancelled(client: hotloop.Client) -> None:
    task_id = client.submit("wait", {"seconds": [0.02] * 100}, kernel="python", batch_size=5)
    told: list[hotloop.Progress] = []
    found = client.result(task_id, progress=told.append)
    assert len(found) == 100
    assert (told[-1].status, told[-1].items_processed) == ("completed", 100)
    long = client.submit("wait", {"seconds": [0.05] * 600}, kernel="python")
    events = client.events(long)
    assert next(events).task_id == long
    events.close()
    client.cancel(long)
    with pytest.raises(RunCancelledError):
        client.result(long)


def test_bar_is_drawn(client: hotloop.Client, capsys: pytest.CaptureFixture[str]) -> None:
    client.run("wait", {"seconds": [0.01] * 40}, kernel="python", batch_size=5, progress=True)
    assert "items" in capsys.readouterr().err


def test_repeated_submission_is_one_task(client: hotloop.Client) -> None:
    items = {"value": [1.0, 2.0]}
    first = client.submit("scale", items, idempotency_key="nightly")
    assert client.submit("scale", items, idempotency_key="nightly") == first
    assert client.submit("scale", items) != first
    with pytest.raises(hotloop.ProblemError) as refused:
        client.submit("scale", {"value": [3.0]}, idempotency_key="nightly")
    assert (refused.value.status, refused.value.kind) == (422, "idempotency-conflict")


def test_failed_items_are_tried_again_and_failed_tasks_raise(client: hotloop.Client) -> None:
    task_id = client.submit("scale", {"value": [1.0, 13.0]}, kernel="python")
    assert client.result(task_id).failed.tolist() == [False, True]
    client.retry_failed(task_id)
    assert client.result(task_id).failed.tolist() == [False, True]
    with pytest.raises(hotloop.ProblemError, match="only a failed or cancelled task"):
        client.resume(task_id)
    bad = client.submit("scale", {"value": [13.0]}, kernel="python", max_error_rate=0.0)
    with pytest.raises(RunError):
        client.result(bad)


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ({}, "at least one item"),
        ({"value": []}, "at least one item"),
        ({"value": [1.0], "other": [1.0, 2.0]}, "value 1, other 2"),
        (3, "not int"),
    ],
)
def test_what_is_no_table_is_refused_at_once(client: hotloop.Client, items: Any, text: str) -> None:
    for method in (client.call_many, client.submit, client.run):
        with pytest.raises(InvalidRequestError, match=text):
            method("scale", items)


def test_problem_has_the_faults(client: hotloop.Client) -> None:
    with pytest.raises(hotloop.ProblemError) as refused:
        client.call_many("scale", {"value": [-1.0]})
    assert refused.value.status == 422
    assert refused.value.errors[0]["field"].startswith("items.0.value")
    with pytest.raises(hotloop.ProblemError) as missing:
        client.call_many("nothing", {"value": [1.0]})
    assert missing.value.status == 404


@pytest.mark.long
def test_key_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known_key = make_key("reader")
    with running_server(tmp_path, api_keys=keys_setting([known_key]), run_hosts=1) as server:
        server.wait_ready()
        with hotloop.Client(server.url) as nobody, pytest.raises(hotloop.ProblemError) as refused:
            nobody.task("task_01234567_1")
        assert refused.value.kind == "unauthorized"
        monkeypatch.setenv("HOTLOOP_API_KEY", known_key.key)
        with hotloop.Client(server.url) as known:
            assert len(known.call_many("loops", {"value": [0.5], "offset": [7]}, FAST)) == 1


@pytest.mark.long
def test_requests_are_repeated_until_the_service_is_back(tmp_path: Path) -> None:
    port = free_port()
    with running_server(tmp_path, port=port, run_hosts=1) as first:
        first.wait_ready()
        url = first.url
    outcome: list[Any] = []

    def ask() -> None:
        with hotloop.Client(url, retries=8) as client:
            outcome.append(client.submit("loops", {"value": [0.5], "offset": [7]}, FAST))

    asking = threading.Thread(target=ask)
    asking.start()
    with running_server(tmp_path, port=port, run_hosts=1) as second:
        asking.join(30)
        with hotloop.Client(second.url) as client:
            assert len(client.result(outcome[0])) == 1


@pytest.mark.long
def test_task_outlives_the_service_that_its_client_follows(tmp_path: Path) -> None:
    port = free_port()
    told = threading.Event()
    with running_server(tmp_path, port=port, run_hosts=1) as first:
        first.wait_ready()
        outcome: list[Any] = []
        url = first.url

        def noted(state: hotloop.Progress) -> None:
            if state.items_processed:
                told.set()

        def follow() -> None:
            options: Any = {"strategy": "threading", "batch_size": 10, "workers": 1}
            items = {"value": [0.5] * 3_000, "offset": [7] * 3_000}
            with hotloop.Client(url, retries=8) as client:
                outcome.append(
                    client.run("loops", items, kernel="python", progress=noted, **options)
                )

        following = threading.Thread(target=follow)
        following.start()
        assert told.wait(20)
        first.stop(signal.SIGKILL)
    with running_server(tmp_path, port=port, run_hosts=1):
        following.join(40)
    assert len(outcome[0]) == 3_000


def test_without_a_service_it_says_so() -> None:
    client = hotloop.Client(f"http://127.0.0.1:{free_port()}", retries=1)
    with client, pytest.raises(hotloop.UnreachableError, match="no answer from http://127"):
        client.task("task_01234567_1")
    client.close()


def test_asynchronous_client_cancels_what_is_not_awaited_any_more(server: Server) -> None:
    async def compute() -> str:
        async with hotloop.AsyncClient(server.url) as client:
            running: list[str] = []
            begun = asyncio.Event()

            def told(state: hotloop.Progress) -> None:
                running.append(state.task_id)
                begun.set()

            run = asyncio.create_task(
                client.run("wait", {"seconds": [0.05] * 600}, kernel="python", progress=told)
            )
            await begun.wait()
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            return str((await client.task(running[0]))["status"])

    assert asyncio.run(compute()) == "cancelled"


INTERRUPTED: Final = """
import sys, hotloop
with hotloop.Client(sys.argv[1]) as client:
    client.run("wait", {"seconds": [0.05] * 600}, kernel="python",
               progress=lambda state: print(state.task_id, flush=True))
"""


def test_program_that_is_interrupted_cancels_its_task(server: Server) -> None:
    command = [sys.executable, "-c", INTERRUPTED, server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        task_id = process.stdout.readline().decode().strip()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert server.view(task_id)["status"] == "cancelled"
