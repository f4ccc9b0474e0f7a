"""cli.application, options: `--help` teaches, and is there at once."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache

import pytest

from hotloop.app.cli.body_options import OTHERWISE, option_name
from hotloop.app.schemas.runs import RunRequest
from hotloop.app.settings.settings import Settings
from hotloop.app.version import VERSION
from hotloop.app.wording import number
from tests.cli.commands import COMMANDS, EXAMPLES
from tests.fixtures.command_line import here, hotloop
from tests.fixtures.server import ROOT


@cache
def help_of(command: str) -> str:
    done = hotloop(*command.split(), "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    return done.stdout


def flowing(text: str) -> str:
    return " ".join(text.split())


def test_without_a_command_the_help_is_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from hotloop.app.cli import main; main([])"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == hotloop("--help").stdout
    for command in COMMANDS:
        assert re.search(rf"^  {command.split()[0]} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["", *COMMANDS, "tasks"])
def test_help_fits_80_columns(command: str) -> None:
    done = here(*command.split(), "--help")
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_version_is_printed() -> None:
    assert hotloop("--version").stdout == f"hotloop {VERSION}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_its_examples_and_the_exit_status(command: str) -> None:
    text = help_of(command)
    for example in EXAMPLES[command]:
        assert f"\n    {example}\n" in text
    assert EXAMPLES[command]
    assert "Exit status: 0" in flowing(text)


@pytest.mark.parametrize("field", RunRequest.model_fields)
def test_help_of_a_run_has_every_field_with_bounds_and_default(field: str) -> None:
    text = flowing(help_of("run"))
    # The one before the metavar.
    option = {"items_count": "--items"}.get(field, option_name(field)) + " "
    assert option in text
    if field in OTHERWISE:
        return
    about = text[text.rindex(option) :].partition(" --")[0]
    schema = RunRequest.model_json_schema()["properties"][field]
    if field in ("simulate_db_delay", "simulate_redis_delay"):
        assert f"--no-{option[2:]}" in text
        return
    for bound in ("minimum", "maximum"):
        assert number(schema.get(bound, "")) in about
    default = schema.get("default")
    if isinstance(default, str | int | float):
        assert f"default {number(default)}" in about


def test_help_of_a_run_has_every_parameter_with_bounds_and_default() -> None:
    text = flowing(help_of("run"))
    for name, schema in RunRequest.model_json_schema()["$defs"]["Parameters"]["properties"].items():
        assert name in text
        assert number(schema["maximum"]) in text
        assert number(schema["default"]) in text


def test_help_of_serve_has_the_defaults_of_the_settings() -> None:
    text = flowing(help_of("serve"))
    for name in ("host", "port", "data_dir"):
        assert f"Default: HOTLOOP_{name.upper()}, or {Settings.model_fields[name].default}." in text


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from hotloop.app.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'aiohttp', 'dbos', 'fastapi', 'httpx', 'numba', 'numpy', 'redis', 'sqlalchemy',"
        " 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_unknown_command_is_refused_with_a_hint() -> None:
    done = hotloop("serv")
    assert done.returncode == 2
    assert "serve" in done.stderr
