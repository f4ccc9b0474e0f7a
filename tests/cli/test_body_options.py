"""Options against the models that they are made from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import BaseModel

import hotloop as hotloop_package
from hotloop import kernels
from hotloop.app.cli.body_options import _number_or_word, checked, option_name, run_body
from hotloop.app.cli.exits import CommandError
from hotloop.app.schemas.comparison import CompareRequest
from hotloop.app.schemas.recommendation import RecommendationQuery
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.wording import number
from tests.fixtures.command_line import here, hotloop, refusal
from tests.fixtures.fake_services import task_view
from tests.fixtures.held_service import held_service


@hotloop_package.workload(
    columns={"spot": hotloop_package.Float(0, 1)},
    parameters={
        "kind": hotloop_package.Choice("put", "1", 1, 2.5),
        "exact": hotloop_package.Bool(default=False),
        "rate": hotloop_package.Float(0, 1, default=0.5),
    },
)
def option(spot: float, kind: str, exact: bool, rate: float) -> float:
    """Has parameters of every kind."""
    return spot


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


@pytest.fixture
def own() -> Iterator[None]:
    kernels.declare(option.declaration)
    yield
    kernels.withdraw("option")


@pytest.mark.usefixtures("own")
def test_parameters_are_read_as_declared() -> None:
    for text, value in (
        ("kind=put", "put"),
        ("kind=1", "1"),
        ("kind=2.5", 2.5),
        ("exact=true", True),
        ("exact=False", False),
        ("rate=1e-3", 0.001),
        ("rate=1", 1),
    ):
        name = text.partition("=")[0]
        request, body = checked(RunRequest, run_body({"workload": "option"}, [text]))
        assert (body["parameters"], request.parameters[name]) == ({name: value}, value)
        assert type(body["parameters"][name]) is type(value)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind=call", "--param kind: must be 'put', '1', 1 or 2.5 (got \"call\")"),
        ("exact=1", '--param exact: must be true or false (got "1")'),
        ("rate=much", '--param rate: must be a number (got "much")'),
        ("turns=1", "--param turns: is not a known field; there are kind, exact, rate"),
        ("rate", "--param must be like"),
    ],
)
def test_wrong_parameter_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        checked(RunRequest, run_body({"workload": "option"}, [text]))
    assert words in str(caught.value)
