"""schemas.runs, options, declared, item_columns: bodies and queries of runs and uploads."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from hotloop import kernels
from hotloop.app.names import StrategyName
from hotloop.app.schemas.options import CacheSource, DbSource, RunOptions
from hotloop.app.schemas.runs import RunRequest, UploadQuery, read_request
from hotloop.app.wording import describe
from hotloop.kernels.loops import LOOPS

ROW = {"item_id": 1, "value": 0.5, "offset": 7}


def parse(body: Any) -> RunRequest:
    return RunRequest.model_validate_json(json.dumps(body))


def faults(body: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        parse(body)
    return {".".join(map(str, detail["loc"])): describe(detail) for detail in caught.value.errors()}


def test_empty_body_is_the_defaults() -> None:
    request = parse({})
    assert request.total_items == request.items_count == 50_000
    assert (request.batch_size, request.workers, request.io_concurrency) == ("auto", 4, 1_000)
    assert (request.kernel, request.workload) == ("auto", "loops")
    assert (request.db_delay_ms, request.redis_delay_ms) == (1_000.0, (1.0, 10.0))
    assert (request.simulate_db_delay, request.simulate_redis_delay) == (True, True)
    assert (request.timeout_seconds, request.max_error_rate) == (None, 1.0)
    assert request.parameters == {
        "cpu_iterations": 20_000,
        "outer_iterations": 100,
        "inner_iterations": 200,
    }


def test_items_of_a_users_function_wait_for_nothing_by_default() -> None:
    source = kernels.WorkloadSource("prices", "own", "1" * 64)
    kernels.declare(replace(LOOPS, name="own", source=source))
    try:
        body: dict[str, Any] = {"workload": "own"}
        made = read_request(RunRequest, json.dumps(body))
        body |= {"db": "simulated", "cache": "simulated"}
        asked = read_request(RunRequest, json.dumps(body))
    finally:
        kernels.withdraw("own")
    assert (made.db_source, made.cache_source) == ("none", "none")
    assert (asked.db_source, asked.cache_source) == ("simulated", "simulated")


def test_made_up_items_pass_simulated_stages_by_default() -> None:
    assert (parse({}).db_source, parse({}).cache_source) == (
        DbSource.SIMULATED,
        CacheSource.SIMULATED,
    )


def test_items_with_columns_pass_no_stage_by_default() -> None:
    request = parse({"items": [ROW]})
    assert (request.db_source, request.cache_source) == (DbSource.NONE, CacheSource.NONE)
    assert request.total_items == 1
    upload = UploadQuery()
    assert (upload.db_source, upload.cache_source) == (DbSource.NONE, CacheSource.NONE)


def test_delay_may_be_the_same_for_all_items() -> None:
    assert parse({"redis_delay_ms": [3, 3]}).redis_delay_ms == (3.0, 3.0)


def test_requested_stages_are_used() -> None:
    request = parse({"items": [ROW], "db": "simulated", "cache": "simulated"})
    assert (request.db_source, request.cache_source) == (DbSource.SIMULATED, CacheSource.SIMULATED)
    assert parse({"db": "none"}).db_source == DbSource.NONE


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("items_count", 1, 10_000_000),
        ("batch_size", 1, 1_000_000),
        ("workers", 1, 256),
        ("io_concurrency", 1, 20_000),
        ("db_delay_ms", 0, 60_000),
        ("timeout_seconds", 0.1, 86_400),
        ("max_error_rate", 0, 1),
    ],
)
def test_bounds_are_inclusive(field: str, low: float, high: float) -> None:
    assert getattr(parse({field: low}), field) == low
    assert getattr(parse({field: high}), field) == high
    if field == "batch_size":
        words = {low: "from 1 to 1,000,000 (got 0)", high: "from 1 to 1,000,000 (got 1000001)"}
    else:
        words = {low: "must be at least", high: "must be at most"}
    assert words[low] in faults({field: low - 1})[field]
    assert words[high] in faults({field: high + 1})[field]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"workers": True}, "workers", "must be an integer (got true)"),
        ({"workers": "5"}, "workers", 'must be an integer (got "5")'),
        ({"workers": 5.0}, "workers", "must be an integer (got 5.0)"),
        ({"workers": None}, "workers", "must be an integer (got null)"),
        ({"max_error_rate": "0.5"}, "max_error_rate", 'must be a number (got "0.5")'),
        ({"max_error_rate": True}, "max_error_rate", "must be a number (got true)"),
        ({"simulate_db_delay": 1}, "simulate_db_delay", "must be true or false (got 1)"),
        ({"db": "My SQL"}, "db", 'must match ^[a-z][a-z0-9_-]*$ (got "My SQL")'),
        ({"cache": ""}, "cache", 'must have at least 1 character (got "")'),
        ({"kernel": "rust"}, "kernel", "must be 'auto', 'python', 'cython' or 'numba'"),
        ({"workload": "No Such"}, "workload", "must match"),
        ({"redis_delay_ms": [2, 1]}, "redis_delay_ms", "low at most high (got 2 and 1)"),
        ({"redis_delay_ms": [1.5, 1.2]}, "redis_delay_ms", "(got 1.5 and 1.2)"),
        ({"redis_delay_ms": [1]}, "redis_delay_ms.1", "is required"),
        ({"redis_delay_ms": [1, 2, 3]}, "redis_delay_ms", "must have at most 2 entries"),
        ({"redis_delay_ms": [-1, 2]}, "redis_delay_ms.0", "must be at least 0 (got -1)"),
        ({"wokers": 1}, "wokers", "is not a known field"),
        ({"parameters": {"turns": 1}}, "parameters.turns", "is not a known field"),
        ({"parameters": {"cpu_iterations": -1}}, "parameters.cpu_iterations", "at least 0"),
        ({"items": []}, "items", "must have at least 1 entry (got an empty list)"),
        ({"items": [{"item_id": 1}]}, "items.0.value", "is required"),
        ({"items": [ROW | {"value": -1}]}, "items.0.value", "at least 0"),
        ({"items": [ROW | {"value": 1e7}]}, "items.0.value", "at most 1,000,000"),
        ({"items": [ROW | {"offset": 2**31}]}, "items.0.offset", "at most 2,147,483,647"),
        ({"items": [ROW | {"item_id": 2**63}]}, "items.0.item_id", "at most 9,223,372"),
        ({"items": [ROW | {"item_id": "1"}]}, "items.0.item_id", "must be an integer"),
        ({"items": [ROW | {"extra": 1}]}, "items.0.extra", "is not a known field"),
        ({"items": [ROW] * 100_001}, "items", "must have at most 100,000 entries"),
        ({"items": [ROW], "items_count": 1}, "", "cannot be given together with items"),
        ([], "", "must be an object"),
    ],
)
def test_wrong_body_is_refused(body: Any, field: str, words: str) -> None:
    told = faults(body)
    assert words in told[field]


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["workers", "db_delay_ms", "timeout_seconds"])
def test_number_that_is_not_finite_is_refused(field: str, literal: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunRequest.model_validate_json(f'{{"{field}": {literal}}}')
    assert caught.value.errors()[0]["loc"] == (field,)


def test_hundred_thousand_rows_are_accepted() -> None:
    rows = [{"item_id": i, "value": float(i), "offset": i} for i in range(100_000)]
    request = parse({"items": rows})
    assert request.total_items == 100_000
    assert request.items == rows


def test_only_the_first_wrong_row_is_reported() -> None:
    assert list(faults({"items": [ROW, {}, {}]})) == [
        "items.1.item_id",
        "items.1.value",
        "items.1.offset",
    ]


def test_nested_iterations_are_bounded_together() -> None:
    fits = {"outer_iterations": 100_000, "inner_iterations": 10_000}
    assert parse({"parameters": fits}).parameters == {"cpu_iterations": 20_000} | fits
    too_many = fits | {"inner_iterations": 10_001}
    assert (
        "at most 1,000,000,000 (got 1,000,100,000)"
        in faults({"parameters": too_many})["parameters"]
    )
    with pytest.raises(ValidationError, match="at most 1,000,000,000"):
        UploadQuery(parameters=too_many)


def test_upload_query_has_the_fields_of_a_body() -> None:
    assert UploadQuery().strategy is StrategyName.HYBRID
    assert UploadQuery().parameters == RunRequest().parameters
    body = set(RunOptions.model_fields) | {"parameters"}
    assert set(UploadQuery.model_fields) == body | {"strategy"}
    assert set(RunRequest.model_fields) == set(RunOptions.model_fields) | {
        "items_count",
        "items",
        "parameters",
    }


def test_kernel_choice_is_auto_and_every_kernel() -> None:
    (schema,) = (RunRequest.model_json_schema()["$defs"]["KernelChoice"],)
    assert schema["enum"] == ["auto", *kernels.known_kernels("loops")]


def test_bounds_are_those_of_the_workload() -> None:
    workload = kernels.get_workload("loops")
    schema = RunRequest.model_json_schema()["$defs"]
    for parameter in workload.parameters:
        field = schema["Parameters"]["properties"][parameter.name]
        assert (field["minimum"], field["maximum"], field["default"]) == (
            parameter.minimum,
            parameter.maximum,
            parameter.default,
        )
    row = schema["ItemRow"]["properties"]
    for column in workload.columns_in:
        assert (row[column.name]["minimum"], row[column.name]["maximum"]) == (
            column.minimum,
            column.maximum,
        )
    assert set(row) == {"item_id", *(column.name for column in workload.columns_in)}
    (bound,) = workload.product_bounds
    assert bound.parameters == ("outer_iterations", "inner_iterations")
    assert bound.maximum == 1_000_000_000
