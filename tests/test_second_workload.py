"""A second workload needs no line in `app`: `app/schemas/{declared,runs,item_columns}.py`, sources,
checksums, options and routes take its columns and parameters from the declaration.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from hotloop import kernels
from hotloop.app.cli.body_options import checked, run_body
from hotloop.app.cli.exits import CommandError
from hotloop.app.prediction.stages import make_stages
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.queries import read_query
from hotloop.app.schemas.runs import (
    BackgroundRequest,
    RunRequest,
    UploadQuery,
    read_request,
    request_model,
)
from hotloop.app.settings.settings import Settings
from hotloop.app.sources.item_file import FileItems
from hotloop.app.sources.pinot import PinotStage
from hotloop.app.sources.redis import RedisStage
from hotloop.app.sources.rows import CSV, NDJSON, ingest
from hotloop.app.strategies.checksum import checksum_text, rows_checksum
from hotloop.app.wording import describe
from hotloop.kernels import registry
from tests.fixtures.command_line import hotloop
from tests.fixtures.second_workload import MODULE, NAME
from tests.fixtures.second_workload import WORKLOAD as GROWTH
from tests.fixtures.server import Server, running_server
from tests.fixtures.waiting import wait_until

ROWS = [{"item_id": i, "start": 100.0 + i, "months": 1 + 7 * i} for i in range(40)]
PARAMETERS = {"steps": 30, "rate": 0.05}
CSV_BODY = "months,item_id,start\n" + "".join(
    f"{row['months']},{row['item_id']},{row['start']}\n" for row in ROWS
)
NDJSON_BODY = "".join(f"{json.dumps(row)}\n" for row in ROWS)


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    registry.declare(GROWTH)
    yield
    registry._declared.pop(NAME)


def expected(rows: list[dict[str, Any]] = ROWS, **parameters: Any) -> dict[str, Any]:
    columns = ItemColumns.of(NAME, rows)
    outputs = kernels.get_kernel(NAME, "python").run(columns.columns, PARAMETERS | parameters)
    checksum = checksum_text(rows_checksum(columns.item_ids, outputs))
    return {"checksum": checksum, "final": outputs["final"].tolist()}


def faults(body: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        read_request(RunRequest, json.dumps({"workload": NAME} | body))
    return {".".join(map(str, each["loc"])): describe(each) for each in caught.value.errors()}


@pytest.mark.parametrize("model", [RunRequest, BackgroundRequest, CompareRequest])
def test_body_is_read_by_the_model_of_its_workload(model: type[RunRequest]) -> None:
    body = {"workload": NAME, "items": ROWS, "parameters": {"rate": 0.05}}
    request = read_request(model, json.dumps(body))
    assert isinstance(request, model)
    assert request.parameters == {"steps": 50, "rate": 0.05}
    assert request.changed_parameters == {"rate": 0.05}
    assert request.items == ROWS
    assert pickle.loads(pickle.dumps(request)) == request
    assert read_request(model, "{}").parameters == model().parameters


def test_refusals_name_the_columns_and_parameters_of_the_workload() -> None:
    assert faults({"parameters": {"steps": 0, "rate": 0.6, "cpu_iterations": 1}}) == {
        "parameters.steps": "must be at least 1 (got 0)",
        "parameters.rate": "must be at most 0.5 (got 0.6)",
        "parameters.cpu_iterations": "is not a known field; /docs lists the fields",
    }
    assert "at most 5,000 (got 6,000)" in faults({"parameters": {"steps": 6_000}})["parameters"]
    assert list(faults({"items": [ROWS[0] | {"months": 601}]})) == ["items.0.months"]
    assert list(faults({"items": [{"item_id": 1, "value": 0.5, "offset": 7}]})) == [
        "items.0.start",
        "items.0.months",
        "items.0.value",
        "items.0.offset",
    ]


def test_schema_of_each_workload_has_a_name_of_its_own() -> None:
    models = [request_model(RunRequest, name) for name in ("loops", NAME, "unknown")]
    assert [model.__name__ for model in models] == [
        "RunRequest",
        f"RunRequest_{NAME}",
        "RunRequest",
    ]
    schema = models[1].model_json_schema()
    rate = schema["$defs"][f"Parameters_{NAME}"]["properties"]["rate"]
    assert (rate["type"], rate["minimum"], rate["default"]) == ("number", -0.5, 0.02)
    assert schema["properties"]["workload"]["const"] == NAME


def test_query_has_the_parameters_of_its_workload() -> None:
    made = read_query(UploadQuery, [("workload", NAME), ("rate", "0.1"), ("steps", "7")])
    assert made.parameters == {"steps": 7, "rate": 0.1}
    assert read_query(UploadQuery, []).parameters == RunRequest().parameters
    for given, field in ((("rate", "1"), "rate"), (("cpu_iterations", "1"), "cpu_iterations")):
        with pytest.raises(ValidationError) as caught:
            read_query(UploadQuery, [("workload", NAME), given])
        (fault,) = caught.value.errors()
        assert fault["loc"][-1] == field


@pytest.mark.parametrize(("media_type", "body"), [(CSV, CSV_BODY), (NDJSON, NDJSON_BODY)])
def test_upload_becomes_an_item_file(tmp_path: Path, media_type: str, body: str) -> None:
    upload, items = tmp_path / "upload", tmp_path / "items"
    upload.write_text(body)
    assert ingest(upload, media_type, items, NAME, 1_000) == len(ROWS)
    batch = FileItems(str(items), len(ROWS)).load(NAME, 0, len(ROWS))
    assert batch.columns["months"].dtype == np.int16
    assert batch.columns["start"].tolist() == [row["start"] for row in ROWS]


def test_simulated_items_are_within_the_bounds() -> None:
    columns = GROWTH.simulated_columns(np.arange(-5, 10_000, dtype=np.int64))
    for column in GROWTH.columns_in:
        values = columns[column.name]
        assert values.dtype == column.dtype
        assert column.limits[0] <= values.min() < values.max() <= column.limits[1]
    assert (
        columns["months"][5:8].tolist() == GROWTH.simulated_columns(np.arange(3))["months"].tolist()
    )


def test_compiled_kernel_is_equal_and_a_missing_one_says_why() -> None:
    columns = GROWTH.simulated_columns(np.arange(100, dtype=np.int64))
    results = [kernels.get_kernel(NAME, name).run(columns) for name in ("python", "numba")]
    assert kernels.parity_faults(GROWTH, columns, {}, *results) == []
    results[1]["final"][3] += 1
    assert len(kernels.parity_faults(GROWTH, columns, {}, *results)) == 1
    assert "was not built" in (kernels.why_unavailable(NAME, "rust") or "")


def test_columns_of_sources_default_to_the_declaration() -> None:
    urls: dict[str, Any] = {"redis_url": "redis://here", "pinot_url": "http://here"}
    asked = read_request(
        RunRequest, json.dumps({"workload": NAME, "db": "pinot", "cache": "redis"})
    )
    pinot, redis = make_stages(asked, Settings(**urls))
    assert isinstance(pinot, PinotStage)
    assert isinstance(redis, RedisStage)
    assert redis.fields == (("months", "months"),)
    assert pinot.fields == (("start", "start"), ("months", "months"))
    assert 'item_id, "start", "months" FROM items' in pinot.sql
    _, redis = make_stages(asked, Settings(**urls, redis_columns={"start": "s"}))
    assert isinstance(redis, RedisStage)
    assert redis.fields == (("start", "s"),)


def test_options_are_read_as_the_workload_declares() -> None:
    body = run_body({"workload": NAME, "kernel": "rust"}, ["steps=1_000", "rate=5e-2"])
    request, _ = checked(RunRequest, body)
    assert request.parameters == {"steps": 1_000, "rate": 0.05}
    with pytest.raises(CommandError, match=r"--param turns: .*there are steps, rate"):
        checked(RunRequest, run_body({"workload": NAME}, ["turns=1"]))


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("_HOTLOOP_WORKLOAD_MODULES", MODULE)
        yield {"_HOTLOOP_WORKLOAD_MODULES": MODULE}


@pytest.fixture(scope="module")
def server(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("growth")) as server:
        ready = "/health/ready"
        wait_until(lambda: server.client.get(ready).status_code == 200, "a run host is warm")
        yield server


def check(answer: httpx.Response, rows: list[dict[str, Any]] = ROWS) -> None:
    assert answer.status_code == 200, answer.text
    wanted, result = expected(rows), answer.json()
    assert (result["checksum"], result["workload"]) == (wanted["checksum"], NAME)
    assert [row["final"] for row in result["results"]] == wanted["final"][:5]


def test_service_runs_it_from_the_body_a_csv_and_an_ndjson_file(server: Server) -> None:
    body = {"workload": NAME, "items": ROWS, "parameters": PARAMETERS}
    check(server.run("threading", **body, kernel="numba"))
    check(server.run("multiprocessing", **body, kernel="python"))
    query: dict[str, Any] = {"workload": NAME, "kernel": "numba", **PARAMETERS}
    check(server.upload(CSV_BODY.encode(), **query))
    check(server.upload(NDJSON_BODY.encode(), NDJSON, **query))
    many = [{"item_id": i, "start": 1.5 * (i + 1), "months": 1 + i % 600} for i in range(2_000)]
    check(server.run("hybrid", **(body | {"items": many})), many)
    refused = server.upload(CSV_BODY.replace("100.0", "1e9").encode(), **query)
    assert "start" in refused.json()["detail"], refused.text


def test_service_describes_it(server: Server) -> None:
    answer = server.client.get("/api/v1/tasks/kernels").json()
    (shown,) = (each for each in answer["workloads"] if each["name"] == NAME)
    assert shown["columns_in"][0] == {
        "name": "start",
        "dtype": "float64",
        "width": None,
        "description": "money at the start",
        "minimum": 0.01,
        "maximum": 1e6,
        "unit": "EUR",
        "example": 100.0,
    }
    assert [p["dtype"] for p in shown["parameters"]] == ["int64", "float64"]
    kernels_ = {k["kernel"]: k for k in answer["kernels"] if k["workload"] == NAME}
    assert {name: k["available"] for name, k in kernels_.items()} == {
        "python": True,
        "numba": True,
        "rust": False,
    }
    schemas = server.client.get("/openapi.json").json()["components"]["schemas"]
    assert schemas["KernelName"]["enum"] == ["python", "cython", "numba", "rust"]
    assert set(schemas) >= {"RunRequest", f"RunRequest_{NAME}", f"BackgroundRequest_{NAME}"}
    assert set(schemas[f"ItemRow_{NAME}"]["properties"]) == {"item_id", "start", "months"}


def test_service_recommends_and_compares_it(server: Server) -> None:
    query: dict[str, Any] = {
        "workload": NAME,
        "items_count": 500,
        "db": "none",
        "cache": "none",
        "rate": 0.1,
    }
    found = server.client.get("/api/v1/tasks/recommendations", params=query)
    assert found.status_code == 200, found.text
    assert '"rate": 0.1' in found.json()["curl"]
    body = {"workload": NAME, "items": ROWS, "rounds": 1, "strategies": ["sequential"]}
    done = server.client.post("/api/v1/tasks/compare", json=body)
    assert done.status_code == 200, done.text
    assert done.json()["outputs_equal"] is True, done.json()["mismatches"]


def test_command_line_runs_it(server: Server, environment: dict[str, str]) -> None:
    given = ("--workload", NAME, "-n", "30", "--db", "none", "--cache", "none", "-p", "rate=0.05")
    done = hotloop("run", "sequential", *given, "--url", server.url, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "final" in done.stdout
    help_text = hotloop("run", "--help", environment=environment).stdout
    assert "rate (-0.5 … 0.5; default 0.02)" in " ".join(help_text.split())
