"""Options against the models that they are made from."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from hotloop.app.cli.body_options import _number_or_word, option_name
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.recommendation import RecommendationQuery
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.wording import number
from tests.fixtures.command_line import here, hotloop, refusal
from tests.fixtures.fake_services import task_view
from tests.fixtures.held_service import held_service

MODELS: dict[str, type[BaseModel]] = {
    "run": RunRequest,
    "compare": CompareRequest,
    "recommend": RecommendationQuery,
}


@pytest.mark.parametrize("command", MODELS)
def test_every_field_is_an_option_with_bounds_and_default(command: str) -> None:
    text = " ".join(hotloop(command, "--help").stdout.split())
    for name, schema in MODELS[command].model_json_schema()["properties"].items():
        if name in RunRequest().parameters:
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
        (("run", "--batch-size", "0"), "--batch-size: must be auto, or an integer from 1 to"),
        (("compare", "--batch-size", "some"), 'from 1 to 1,000,000 (got "some")'),
        (("recommend", "--limit", "0"), "--limit: must be at least 1 (got 0)"),
        (("recommend", "--param", "outer_iterations=-1"), "--param outer_iterations: must be"),
    ],
)
def test_bad_value_names_option_bound_and_value(arguments: tuple[str, ...], words: str) -> None:
    assert words in refusal(*arguments)


def test_batch_size_is_a_number_or_auto() -> None:
    for command in MODELS:
        assert "--batch-size auto|N" in here(command, "--help").stdout
    assert _number_or_word("1_000") == 1_000
    assert _number_or_word("auto") == "auto"


def test_batch_size_auto_is_sent_unchanged() -> None:
    with held_service({"POST /api/v1/tasks/background": task_view().model_dump(mode="json")}) as s:
        s.release()
        for text, sent in (("auto", "auto"), ("77", 77)):
            done = here("run", "--batch-size", text, "--background", "--url", s.url)
            assert done.returncode == 0, done.stderr
            assert s.bodies[-1]["batch_size"] == sent
