"""schemas.declared, item_columns: booleans, choices and vectors in bodies, as they are declared."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hotloop import kernels
from hotloop.app.schemas.item_columns import ItemColumns
from hotloop.app.schemas.runs import RunRequest, read_request, request_model
from hotloop.app.wording import describe
from hotloop.kernels import Column, Parameter, Workload

ROW = {"item_id": 1, "inverted": True, "noise": -100, "samples": [10, -10.0, 0.25]}


def asked(**body: Any) -> RunRequest:
    return read_request(RunRequest, json.dumps({"workload": "signals"} | body))


def faults(**body: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        asked(**body)
    return {".".join(map(str, each["loc"])): describe(each) for each in caught.value.errors()}


def test_rows_become_columns_of_their_dtypes(signals: Workload) -> None:
    request = asked(items=[ROW, ROW | {"item_id": 2, "inverted": False}])
    assert request.items is not None
    columns = ItemColumns.of("signals", request.items)
    assert [(c.dtype.name, c.shape) for c in columns.columns.values()] == [
        ("bool", (2,)),
        ("int8", (2,)),
        ("float64", (2, 3)),
    ]
    assert columns[0] == ROW
    assert list(columns[1:]) == [ROW | {"item_id": 2, "inverted": False}]
    assert columns.digest != ItemColumns.of("signals", [ROW, ROW]).digest
    assert pickle.loads(pickle.dumps(columns))[0] == ROW
    kernels.get_kernel("signals", "python").run(columns.columns)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("inverted", 1, "must be true or false (got 1)"),
        ("inverted", "true", 'must be true or false (got "true")'),
        ("noise", 101, "must be at most 100 (got 101)"),
        ("noise", True, "must be an integer (got true)"),
        ("samples", 0.5, "must be a list (got 0.5)"),
        ("samples", [1, 2], "must have at least 3 entries (got 2 entries)"),
        ("samples", [1, 2, 3, 4], "must have at most 3 entries (got 4 entries)"),
        ("samples", [1, 2, None], "must be a number (got null)"),
        ("samples", [1, True, 3], "must be a number (got true)"),
        ("samples", [1, 2, [3]], "must be a number (got 1 entries)"),
        ("samples", [11, 12, 13], "must be at most 10 (got 11)"),
    ],
)
def test_wrong_value_is_refused(signals: Workload, column: str, value: Any, words: str) -> None:
    told = faults(items=[ROW | {column: value}])
    (field,) = (name for name in told if name.startswith(f"items.0.{column}"))
    assert told[field] == words


def test_vector_of_thousands_of_wrong_values_has_one_fault(signals: Workload) -> None:
    wide = replace(
        signals, columns_in=(Column("samples", "float64", "samples", 0, 1, width=5_000),)
    )
    kernels.declare(wide)
    assert len(faults(items=[{"item_id": 1, "samples": [2] * 5_000}])) == 1


@pytest.mark.parametrize(
    ("given", "parameters"),
    [
        ({}, {"method": "sum", "order": 1, "absolute": False, "workers": 1}),
        ({"method": "mean", "absolute": True}, {"method": "mean", "absolute": True}),
        ({"order": 2.5, "workers": 9}, {"order": 2.5, "workers": 9}),
        ({"order": 2.0}, {"order": 2}),
    ],
)
def test_parameters_are_those_declared(
    signals: Workload, given: dict[str, Any], parameters: dict[str, Any]
) -> None:
    request = asked(parameters=given)
    assert request.parameters == signals.resolve_parameters(parameters)
    assert request.changed_parameters == {n: v for n, v in parameters.items() if given}
    assert type(request.parameters["order"]) in (int, float)
    assert signals.resolve_parameters(request.parameters) == request.parameters
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    ("parameter", "value", "words"),
    [
        ("method", "max", "must be 'sum' or 'mean' (got \"max\")"),
        ("method", 1, "must be 'sum' or 'mean' (got 1)"),
        ("method", ["sum"], "must be 'sum' or 'mean' (got 1 entries)"),
        ("order", "1", 'must be 1, 2 or 2.5 (got "1")'),
        ("order", True, "must be 1, 2 or 2.5 (got true)"),
        ("order", 1e400, "must be 1, 2 or 2.5 (got Infinity)"),
        ("absolute", 1, "must be true or false (got 1)"),
        ("absolute", "true", 'must be true or false (got "true")'),
        ("workers", 10, "must be at most 9 (got 10)"),
    ],
)
def test_wrong_parameter_is_refused(
    signals: Workload, parameter: str, value: Any, words: str
) -> None:
    assert faults(parameters={parameter: value}) == {f"parameters.{parameter}": words}


def test_parameter_and_column_may_have_any_name_of_a_model(signals: Workload) -> None:
    names = ("copy", "json", "model_config", "model_fields", "schema", "validate", "workload")
    kernels.declare(
        replace(
            signals,
            columns_in=tuple(Column(name, "int64", name) for name in names),
            parameters=tuple(Parameter(name, 1, 0, 9, name) for name in names),
        )
    )
    row = dict.fromkeys(("item_id", *names), 3)
    request = asked(parameters=dict.fromkeys(names, 2), items=[row])
    assert request.parameters == dict.fromkeys(names, 2)
    assert request.items == [row]


def test_schema_has_the_bounds_and_the_choices(signals: Workload) -> None:
    definitions = request_model(RunRequest, "signals").model_json_schema()["$defs"]
    row = definitions["ItemRow_signals"]["properties"]
    assert row["inverted"]["type"] == "boolean"
    vector = {"items": {"type": "number", "minimum": -10, "maximum": 10}, "type": "array"}
    assert row["samples"].items() >= (vector | {"minItems": 3, "maxItems": 3}).items()
    parameters = definitions["Parameters_signals"]["properties"]
    method = {"type": "string", "enum": ["sum", "mean"], "default": "sum"}
    assert parameters["method"].items() >= method.items()
    assert parameters["order"]["enum"] == [1, 2, 2.5]
    assert parameters["absolute"].items() >= {"type": "boolean", "default": False}.items()


def test_examples_are_accepted(signals: Workload) -> None:
    examples = request_model(RunRequest, "signals").model_json_schema()["examples"]
    read = [read_request(RunRequest, json.dumps(example)) for example in examples]
    assert read[1].items == [
        {"item_id": 1, "inverted": False, "noise": 4, "samples": [0.5, 0.5, 0.5]}
    ]


def test_items_with_long_vectors_are_no_example(signals: Workload) -> None:
    kernels.declare(replace(signals, columns_in=(Column("samples", "int8", "samples", width=500),)))
    assert request_model(RunRequest, "signals").model_json_schema()["examples"] == [
        {"workload": "signals", "items_count": 100}
    ]


def test_workload_that_is_not_declared_is_the_only_fault(signals: Workload) -> None:
    asked()
    kernels.withdraw("signals")
    kernels.declare(replace(signals, name="others"))
    (fault,) = faults(parameters={"method": "sum"}).items()
    assert fault == ("workload", "'signals' is unknown; choose from: loops, others")
    kernels.withdraw("others")


def test_name_of_the_workload_may_be_written_with_escapes(signals: Workload) -> None:
    body = json.dumps({"workload": "signals", "parameters": {"method": "mean"}})
    escaped = body.replace("workload", "\\u0077orkload")
    assert read_request(RunRequest, escaped) == read_request(RunRequest, body)


def test_new_declaration_counts_at_once(signals: Workload) -> None:
    assert "parameters.turns" in faults(parameters={"turns": 3})
    kernels.declare(replace(signals, parameters=(Parameter("turns", 1, 1, 5, "turns"),)))
    assert asked(parameters={"turns": 3}).parameters == {"turns": 3}
    assert np.array_equal(list(asked().parameters.values()), [1])
