"""Options against the models that they are made from."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from app.cli.body_options import option_name
from app.schemas.comparison import CompareRequest
from app.schemas.recommendation import RecommendationQuery
from app.schemas.runs import Parameters, RunRequest
from app.wording import number
from tests.fixtures.command_line import hotloop, refusal

MODELS: dict[str, type[BaseModel]] = {
    "run": RunRequest,
    "compare": CompareRequest,
    "recommend": RecommendationQuery,
}


@pytest.mark.parametrize("command", MODELS)
def test_every_field_is_an_option_with_bounds_and_default(command: str) -> None:
    text = " ".join(hotloop(command, "--help").stdout.split())
    for name, schema in MODELS[command].model_json_schema()["properties"].items():
        if name in Parameters.model_fields:
            assert name in text
            continue
        assert option_name(name) in text
        if "minimum" in schema:
            assert f"{number(schema['minimum'])} … {number(schema['maximum'])}" in text
        if isinstance(schema.get("default"), int | float | str) and schema["default"] is not False:
            shown = {True: "yes"}.get(schema["default"], number(schema["default"]))
            assert f"default {shown}" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "--rounds", "0"), "--rounds: must be at least 1 (got 0)"),
        (("compare", "--kernels", "numba,numba"), "--kernels: must name each only once"),
        (("compare", "--report", "report.pdf"), ".html"),
        (("recommend", "--limit", "0"), "--limit: must be at least 1 (got 0)"),
        (("recommend", "--param", "outer_iterations=-1"), "--param outer_iterations: must be"),
    ],
)
def test_bad_value_names_option_bound_and_value(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal(*arguments)
