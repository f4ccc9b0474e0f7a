"""schemas.queries: options and parameters in one query, whatever the parameters are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from hotloop import kernels
from hotloop.app.schemas.queries import flat, read_query
from hotloop.app.schemas.recommendation import RecommendationQuery
from hotloop.app.schemas.runs import RunRequest, UploadQuery, read_request
from hotloop.app.wording import describe
from hotloop.kernels import Parameter, Workload


def asked(*fields: tuple[str, str]) -> UploadQuery:
    return read_query(UploadQuery, [("workload", "signals"), *fields])


def faults(*fields: tuple[str, str]) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        asked(*fields)
    return {".".join(map(str, each["loc"])): describe(each) for each in caught.value.errors()}


def test_query_without_fields_is_the_defaults() -> None:
    assert read_query(UploadQuery, []) == UploadQuery()
    assert read_query(RecommendationQuery, []).parameters == RunRequest().parameters


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        ([], {}),
        ([("method", "mean"), ("order", "2.5"), ("absolute", "true")], None),
        ([("order", "2"), ("absolute", "1")], {"order": 2, "absolute": True}),
        ([("parameters.order", "1e0")], {"order": 1}),
        ([("parameters.method", "mean")], {"method": "mean"}),
        ([("order", "2"), ("order", "1")], {"order": 1}),
    ],
)
def test_texts_are_read_as_declared(
    signals: Workload, fields: list[tuple[str, str]], parameters: Mapping[str, Any] | None
) -> None:
    every = {"method": "mean", "order": 2.5, "absolute": True}
    expected = signals.resolve_parameters(every if parameters is None else parameters)
    assert asked(*fields).parameters == expected


def test_parameter_with_the_name_of_an_option_needs_its_prefix(signals: Workload) -> None:
    query = asked(("workers", "40"), ("parameters.workers", "4"))
    assert (query.workers, query.parameters["workers"]) == (40, 4)
    assert asked(("workers", "9")).parameters["workers"] == 1


def test_only_the_options_of_the_query_itself_take_a_name(signals: Workload) -> None:
    limit = Parameter("limit", 1, 1, 9, "limit of the level")
    kernels.declare(replace(signals, parameters=(limit,)))
    assert asked(("limit", "3")).parameters == {"limit": 3}
    fields = [("workload", "signals"), ("limit", "3"), ("parameters.limit", "4")]
    found = read_query(RecommendationQuery, fields)
    assert (found.limit, found.parameters) == (3, {"limit": 4})


@pytest.mark.parametrize(
    ("name", "text", "field", "words"),
    [
        ("method", "max", "parameters.method", "must be 'sum' or 'mean' (got \"max\")"),
        ("order", "true", "parameters.order", "must be 1, 2 or 2.5"),
        ("order", "[" * 10_000, "parameters.order", "must be 1, 2 or 2.5"),
        ("absolute", "maybe", "parameters.absolute", "must be true or false"),
        ("parameters.workers", "10", "parameters.workers", "must be at most 9"),
        ("parameters.turns", "1", "parameters.turns", "is not a known field"),
        ("turns", "1", "turns", "is not a known field"),
        ("cpu_iterations", "1", "cpu_iterations", "is not a known field"),
        ("items_count", "1", "items_count", "is not a known field"),
        ("parameters", "1", "parameters", "must be an object"),
        ("workload", "nothing", "workload", "'nothing' is unknown; choose from: loops, signals"),
        ("redis_delay_ms", "1", "redis_delay_ms.1", "is required"),
    ],
)
def test_wrong_field_is_refused(
    signals: Workload, name: str, text: str, field: str, words: str
) -> None:
    told = faults((name, text))
    assert list(told) == [field]
    assert words in told[field]


def test_query_is_made_of_a_body(signals: Workload) -> None:
    body = {
        "workload": "signals",
        "redis_delay_ms": [1, 2],
        "parameters": {"method": "mean", "absolute": True, "workers": 3},
    }
    fields = flat(body)
    assert set(fields) == {
        *("workload", "redis_delay_ms"),
        *("parameters.method", "parameters.absolute", "parameters.workers"),
    }
    pairs = [
        (name, str(value))
        for name, found in fields.items()
        for value in (found if isinstance(found, list) else [found])
    ]
    query = read_query(UploadQuery, pairs)
    assert query.parameters == read_request(RunRequest, json.dumps(body)).parameters
    assert query.redis_delay_ms == (1, 2)


def test_query_follows_the_declarations(signals: Workload) -> None:
    assert asked(("method", "mean")).parameters["method"] == "mean"
    kernels.withdraw("signals")
    assert list(faults(("method", "mean"))) == ["workload"]
