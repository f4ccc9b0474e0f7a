"""A workload with values of every kind passes through the whole service: bodies, uploads, queries,
results that JSON cannot hold (`app/execution/presenters.py`, `app/tasks/results.py`), comparisons,
and the command line.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest

from hotloop import kernels
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.sources.rows import NDJSON
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from hotloop.app.strategies.registry import LOCAL_STRATEGIES
from tests.fixtures.command_line import hotloop
from tests.fixtures.server import Server, running_server
from tests.fixtures.third_workload import MODULE, NAME, WORKLOAD
from tests.fixtures.waiting import wait_until

ROWS: list[dict[str, Any]] = [
    {"item_id": 0, "inverted": False, "noise": 0, "samples": [1.0, -1.0, 0.0]},
    {"item_id": 1, "inverted": False, "noise": 0, "samples": [1.0, 2.0, 3.0]},
    {"item_id": 2, "inverted": True, "noise": 0, "samples": [1.0, 2.0, 3.0]},
    *(
        {"item_id": i, "inverted": i % 3 == 0, "noise": i - 20, "samples": [i / 7, -1, i % 5]}
        for i in range(3, 40)
    ),
]
PARAMETERS = {"method": "mean", "order": 2.5, "absolute": False, "workers": 3}
CSV_BODY = "samples,item_id,inverted,noise\n" + "".join(
    f"{' '.join(map(str, row['samples']))},{row['item_id']},{row['inverted']},{row['noise']}\n"
    for row in ROWS
)
NDJSON_BODY = "".join(f"{json.dumps(row)}\n" for row in ROWS)
LEVELS = [math.nan, math.inf, -math.inf]
TASKS = "/api/v1/tasks"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    kernels.declare(WORKLOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_HOTLOOP_WORKLOAD_MODULES", MODULE)
        yield {"_HOTLOOP_WORKLOAD_MODULES": MODULE}
    kernels.withdraw(NAME)


@pytest.fixture(scope="module")
def server(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("signals")) as server:
        ready = "/health/ready"
        wait_until(lambda: server.client.get(ready).status_code == 200, "a run host is warm")
        yield server


def outputs(rows: list[dict[str, Any]] = ROWS) -> dict[str, np.ndarray]:
    columns = ItemColumns.of(NAME, rows)
    return kernels.get_kernel(NAME, "python").run(columns.columns, PARAMETERS)


def checksum() -> str:
    return checksum_text(rows_checksum(np.arange(len(ROWS)), outputs()))


def strict(text: str) -> Any:
    """Read JSON, and refuse what only Python takes for JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def check(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = strict(answer.text)
    assert result["checksum"] == checksum()
    assert [row["level"] for row in result["results"][:3]] == [None, None, None]
    assert [row["positive"] for row in result["results"][:3]] == [False, True, False]
    assert result["results"][4]["level"] == outputs()["level"][4]
    assert result["failed_items"] == 0
    return result


@pytest.mark.parametrize("strategy", LOCAL_STRATEGIES)
@pytest.mark.parametrize("kernel", ["python", "numpy"])
def test_strategies_and_kernels_agree(server: Server, strategy: str, kernel: str) -> None:
    body = {"workload": NAME, "items": ROWS, "parameters": PARAMETERS, "batch_size": 7}
    check(server.run(strategy, **body, kernel=kernel, workers=2))


def test_uploads_and_queries(server: Server) -> None:
    flat = {f"parameters.{name}": str(value).lower() for name, value in PARAMETERS.items()}
    query: dict[str, Any] = {"workload": NAME, "workers": 2, **flat}
    check(server.upload(CSV_BODY.encode(), **query))
    check(server.upload(NDJSON_BODY.encode(), NDJSON, **query))
    short: dict[str, Any] = {"workload": NAME, "workers": 2, "method": "mean", "order": 2.5}
    short |= {"absolute": 0, "parameters.workers": 3}
    check(server.upload(CSV_BODY.encode(), **short))
    refused = server.upload(CSV_BODY.replace(" -1 ", " -11 ", 1).encode(), **query).json()
    assert refused["errors"][0]["column"] == "samples"
    assert "'-11' (value 2) is out of bounds" in refused["detail"]
    refused = server.upload(CSV_BODY.encode(), **(query | {"parameters.order": 3})).json()
    assert refused["errors"][0]["field"] == "parameters.order"


def test_results_are_valid_in_every_format(server: Server) -> None:
    body = {"workload": NAME, "items": ROWS, "parameters": PARAMETERS}
    task_id = check(server.run("hybrid", **body))["task_id"]
    status = strict(server.client.get(f"{TASKS}/status/{task_id}").text)
    assert status["result"]["results"][0] == {"item_id": 0, "level": None, "positive": False}
    path = f"{TASKS}/results/{task_id}"
    lines = server.client.get(path).text.splitlines()
    assert [strict(line)["level"] for line in lines[:3]] == [None] * 3
    expected = outputs()
    assert [strict(line)["positive"] for line in lines] == expected["positive"].tolist()
    text = server.client.get(path, params={"format": "csv"}).text
    levels = [float(row["level"]) for row in csv.DictReader(text.splitlines())]
    np.testing.assert_array_equal(levels, expected["level"])
    assert text.splitlines()[1:3] == ["0,nan,false", "1,inf,true"]
    stream = server.client.get(path, params={"format": "arrow"}).content
    table = pa.ipc.open_stream(stream).read_all()
    np.testing.assert_array_equal(table.column("level").to_numpy(), expected["level"])
    assert table.column("positive").to_pylist() == expected["positive"].tolist()


def test_background_task_and_its_events(server: Server) -> None:
    body = {"workload": NAME, "items": ROWS, "parameters": PARAMETERS, "strategy": "threading"}
    task = server.client.post(f"{TASKS}/background", json=body).json()
    status = f"{TASKS}/status/{task['task_id']}"
    wait_until(lambda: server.client.get(status).json()["status"] == "completed", "it ends")
    view = strict(server.client.get(status).text)
    assert view["result"]["checksum"] == checksum()
    events = server.client.get(f"{TASKS}/events/{task['task_id']}").text
    for line in events.splitlines():
        if line.startswith("data:"):
            strict(line.removeprefix("data:"))


def test_comparison_of_results_that_are_not_finite(server: Server) -> None:
    body = {"workload": NAME, "items": ROWS, "rounds": 1, "strategies": ["sequential"]}
    done = server.client.post(f"{TASKS}/compare", json=body)
    assert done.status_code == 200, done.text
    found = strict(done.text)
    assert found["outputs_equal"] is True, found["mismatches"]
    assert found["compared_cells"] == 2
    assert strict(server.client.get(f"{TASKS}/status/{found['task_id']}").text)["comparison"]


def test_recommendation_keeps_the_parameters(server: Server) -> None:
    query: dict[str, Any] = {"workload": NAME, "items_count": 500, "db": "none", "cache": "none"}
    found = server.client.get(
        f"{TASKS}/recommendations",
        params=query | {"method": "mean", "absolute": "true", "parameters.workers": 3},
    )
    assert found.status_code == 200, found.text
    given = '"parameters": {"method": "mean", "absolute": true, "workers": 3}'
    assert given in found.json()["curl"]


def test_command_line_takes_words_and_numbers(server: Server, environment: dict[str, str]) -> None:
    given = ["--workload", NAME, "-n", "30", "--db", "none", "--cache", "none", "--url", server.url]
    words = ["-p", "method=mean", "-p", "absolute=true", "-p", "order=2.5", "-p", "workers=3"]
    done = hotloop("run", "sequential", *given, *words, "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    result = strict(done.stdout)
    columns = WORKLOAD.simulated_columns(np.arange(30))
    expected = kernels.get_kernel(NAME, "python").run(columns, PARAMETERS | {"absolute": True})
    assert result["checksum"] == checksum_text(rows_checksum(np.arange(30), expected))
    refused = hotloop("run", *given, "-p", "method=max", environment=environment)
    assert refused.returncode == 2
    assert "--param method: must be 'sum' or 'mean' (got \"max\")" in refused.stderr
    found = hotloop("recommend", *given, *words, environment=environment)
    assert found.returncode == 0, found.stderr
    help_text = " ".join(hotloop("run", "--help", environment=environment).stdout.split())
    assert "method (sum, mean; default sum)" in help_text
    assert "absolute (true, false; default false)" in help_text
